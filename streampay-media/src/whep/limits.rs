//! How much of something strangers may hold.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, PoisonError},
};

/// Places for strangers, in all and for each household: an IPv4 address or an IPv6 network of 64
/// bits.
///
/// ```
/// use streampay_media::whep::{Full, Places};
///
/// let places = Places::new(1, 2);
/// let home = "192.0.2.1".parse()?;
/// let first = places.take(home)?;
/// assert_eq!(places.take(home).unwrap_err(), Full::Address);
/// drop(first);
/// assert!(places.take(home).is_ok());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Places {
    counts: Arc<Mutex<Counts>>,
    per_address: usize,
    in_all: usize,
}

#[derive(Debug, Default)]
struct Counts {
    addresses: HashMap<IpAddr, usize>,
    all: usize,
}

/// One of the places. Dropping it gives it back.
#[derive(Debug)]
pub struct Place {
    places: Places,
    address: IpAddr,
}

/// Why there is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    /// The caller's household has all that one may have.
    #[error("too many from one address")]
    Address,
    /// All are taken.
    #[error("too many in all")]
    All,
    /// All [seats](super::Seats) are taken.
    #[error("no seat is free")]
    Seats,
}

impl Places {
    /// All of them free.
    #[must_use]
    pub fn new(per_address: usize, in_all: usize) -> Self {
        Self {
            counts: Arc::default(),
            per_address,
            in_all,
        }
    }

    /// Takes one for a caller at `address`.
    ///
    /// # Errors
    /// [`Full`] says which bound is reached.
    pub fn take(&self, address: IpAddr) -> Result<Place, Full> {
        let address = group(address);
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.all >= self.in_all {
            return Err(Full::All);
        }
        let here = counts.addresses.get(&address).copied().unwrap_or(0);
        if here >= self.per_address {
            return Err(Full::Address);
        }
        counts.addresses.insert(address, here + 1);
        counts.all += 1;
        drop(counts);
        Ok(Place {
            places: self.clone(),
            address,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self
            .places
            .counts
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        counts.all = counts.all.saturating_sub(1);
        if let Some(here) = counts.addresses.get_mut(&self.address) {
            *here = here.saturating_sub(1);
            if *here == 0 {
                counts.addresses.remove(&self.address);
            }
        }
    }
}

/// One household: an IPv4 address or an IPv6 network of 64 bits.
pub(super) fn group(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let network = u128::from(address) >> 64 << 64;
            IpAddr::V6(Ipv6Addr::from(network))
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_per_household_and_in_all_and_come_back() {
        let places = Places::new(1, 2);
        let ip = |text: &str| text.parse().unwrap();
        let first = places.take(ip("2001:db8::1")).unwrap();
        assert_eq!(places.take(ip("2001:db8::2")).unwrap_err(), Full::Address);
        let second = places.take(ip("1.2.3.4")).unwrap();
        assert_eq!(places.take(ip("4.3.2.1")).unwrap_err(), Full::All);
        drop(second);
        assert_eq!(places.take(ip("2001:db8::2")).unwrap_err(), Full::Address);
        drop(first);
        assert!(places.take(ip("2001:db8::2")).is_ok());
        assert!(places.counts.lock().unwrap().addresses.is_empty());
    }
}
