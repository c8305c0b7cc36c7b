//! How many strangers may hold a connection.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, PoisonError},
};

/// Counts the connections that have not paid or proved anything yet.
#[derive(Clone, Debug)]
pub(super) struct Unbound {
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
pub(super) struct Place {
    unbound: Unbound,
    address: IpAddr,
}

/// Why there is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    Address,
    All,
}

impl Unbound {
    pub(super) fn new(per_address: usize, in_all: usize) -> Self {
        Self {
            counts: Arc::default(),
            per_address,
            in_all,
        }
    }

    pub(super) fn take(&self, address: IpAddr) -> Result<Place, Full> {
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
            unbound: self.clone(),
            address,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self
            .unbound
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
fn group(address: IpAddr) -> IpAddr {
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
        let unbound = Unbound::new(1, 2);
        let ip = |text: &str| text.parse().unwrap();
        let first = unbound.take(ip("2001:db8::1")).unwrap();
        assert_eq!(unbound.take(ip("2001:db8::2")).unwrap_err(), Full::Address);
        let second = unbound.take(ip("1.2.3.4")).unwrap();
        assert_eq!(unbound.take(ip("4.3.2.1")).unwrap_err(), Full::All);
        drop(second);
        assert_eq!(unbound.take(ip("2001:db8::2")).unwrap_err(), Full::Address);
        drop(first);
        assert!(unbound.take(ip("2001:db8::2")).is_ok());
        assert!(unbound.counts.lock().unwrap().addresses.is_empty());
    }
}
