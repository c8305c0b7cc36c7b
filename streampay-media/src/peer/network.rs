//! Where connections receive, and what they say of it.

use core::fmt;
use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket},
    ops::RangeInclusive,
    str::FromStr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rtc::shared::ifaces::ifaces;
use zeroize::Zeroizing;

use super::{CANDIDATES_MAX, sdp};

/// UDP ports that a firewall lets through, one a connection. Clones share them.
#[derive(Clone, Debug)]
pub struct PortRange {
    ports: RangeInclusive<u16>,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    leased: BTreeSet<u16>,
    next: u16,
}

/// A text or range that names no ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("ports are written like 40000-40999, the lower one first, none of them 0")]
pub struct BadPortRange;

impl PortRange {
    /// These ports.
    ///
    /// # Errors
    /// [`BadPortRange`] where it is empty or holds 0.
    pub fn new(ports: RangeInclusive<u16>) -> Result<Self, BadPortRange> {
        if ports.is_empty() || *ports.start() == 0 {
            return Err(BadPortRange);
        }
        let next = *ports.start();
        let leased = BTreeSet::new();
        let state = Arc::new(Mutex::new(State { leased, next }));
        Ok(Self { ports, state })
    }

    /// Which ports these are.
    #[must_use]
    pub fn ports(&self) -> RangeInclusive<u16> {
        self.ports.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One that nobody has, at all of these addresses.
    pub(super) fn take(&self, bind: &[SocketAddr]) -> Option<PortLease> {
        let mut state = self.lock();
        let from = state.next;
        let after = self.ports.clone().filter(|port| *port >= from);
        let before = self.ports.clone().filter(|port| *port < from);
        let free = |port: &u16| {
            let at = |address: &SocketAddr| SocketAddr::new(address.ip(), *port);
            // The stack logs and leaves out what it cannot bind, so that it is tried here.
            !state.leased.contains(port)
                && bind
                    .iter()
                    .all(|address| UdpSocket::bind(at(address)).is_ok())
        };
        let port = after.chain(before).find(free)?;
        state.leased.insert(port);
        // Not the same again at once: late packets of its last connection may still come.
        state.next = port.wrapping_add(1);
        drop(state);
        let range = self.clone();
        Some(PortLease { range, port })
    }
}

/// Written `40000-40999`.
impl FromStr for PortRange {
    type Err = BadPortRange;

    fn from_str(text: &str) -> Result<Self, BadPortRange> {
        let (first, last) = text.split_once('-').ok_or(BadPortRange)?;
        let port = |text: &str| text.trim().parse().map_err(|_| BadPortRange);
        Self::new(port(first)?..=port(last)?)
    }
}

/// A port that is a connection's own. Dropped, it is free again.
#[derive(Debug)]
pub(super) struct PortLease {
    range: PortRange,
    port: u16,
}

impl PortLease {
    /// The addresses with this port where they leave it open.
    pub(super) fn addresses(&self, bind: &[SocketAddr]) -> Vec<SocketAddr> {
        let with_port = |address: &SocketAddr| match address.port() {
            0 => SocketAddr::new(address.ip(), self.port),
            _ => *address,
        };
        bind.iter().map(with_port).collect()
    }
}

impl Drop for PortLease {
    fn drop(&mut self) {
        self.range.lock().leased.remove(&self.port);
    }
}

/// A STUN or TURN server. Source: RFC 7064, RFC 7065.
#[derive(Clone)]
pub struct IceServer {
    /// Such as `stun:stun.example.com:3478` or `turn:turn.example.com:3478?transport=udp`.
    pub url: String,
    /// For TURN: the user.
    pub username: String,
    /// For TURN: the password.
    pub credential: Zeroizing<String>,
}

impl fmt::Debug for IceServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IceServer")
            .field("url", &self.url)
            .field("username", &self.username)
            .field("credential", &"<redacted>")
            .finish()
    }
}

/// The addresses, with what of IPv6 can be bound in place of `[::]`.
///
/// The stack, which does that itself, takes all addresses of this machine. Those of IPv6 are many
/// where it has taken new ones for privacy, and an offer with too many candidates is refused.
pub(super) fn with_ipv6(bind: &[SocketAddr]) -> Vec<SocketAddr> {
    let is_any = |address: &&SocketAddr| address.is_ipv6() && address.ip().is_unspecified();
    let Some(any) = bind.iter().find(is_any) else {
        return bind.to_vec();
    };
    let found = ifaces().unwrap_or_default();
    let own: Vec<_> = found
        .iter()
        .filter_map(|each| Some(each.addr?.ip()))
        .collect();
    let can_bind = |ip: &Ipv6Addr| UdpSocket::bind((*ip, 0)).is_ok();
    let chosen = chosen_ipv6(first_choice(), &own, can_bind);
    let others = bind.iter().filter(|address| !is_any(address));
    let chosen = chosen.into_iter().map(|ip| (ip, any.port()).into());
    others.copied().chain(chosen).collect()
}

/// From where this machine would go to the world by IPv6. Source: RFC 6724 5. Sends nothing.
fn first_choice() -> Option<Ipv6Addr> {
    // Documentation, RFC 3849: no machine of anybody.
    const WORLD: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
    let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect((WORLD, 9)).ok()?;
    match socket.local_addr().ok()?.ip() {
        IpAddr::V6(own) => Some(own),
        IpAddr::V4(_) => None,
    }
}

/// Of `own`, the addresses of this machine, at most four that others can reach, `first` before all,
/// and loopback; fewer where IPv4 has so many that an offer has no room.
fn chosen_ipv6(
    first: Option<Ipv6Addr>,
    own: &[IpAddr],
    can_bind: impl Fn(&Ipv6Addr) -> bool,
) -> Vec<Ipv6Addr> {
    const MOST: usize = 4;
    let fours = own.iter().filter(|ip| ip.is_ipv4()).count();
    // The stack writes each candidate twice, for RTP and for RTCP.
    let room = (CANDIDATES_MAX / 2).saturating_sub(fours);
    let own = own.iter().filter_map(|ip| match ip {
        IpAddr::V6(ip) => Some(*ip),
        IpAddr::V4(_) => None,
    });
    let mut chosen: Vec<Ipv6Addr> = Vec::new();
    for ip in first.into_iter().chain(own) {
        let is_new = sdp::is_reachable_v6(ip) && !chosen.contains(&ip);
        if is_new && chosen.len() < MOST && can_bind(&ip) {
            chosen.push(ip);
        }
    }
    chosen.extend(Some(Ipv6Addr::LOCALHOST).filter(can_bind));
    chosen.truncate(room);
    chosen
}

/// The description with candidates at the addresses in `announce` beside the host candidates of
/// the same family: behind a NAT that passes each port on, others reach this machine there, and
/// those in the same house where it is.
pub(super) fn announced(sdp: &str, announce: &[IpAddr]) -> String {
    let mut with = String::with_capacity(sdp.len());
    for line in sdp.split_inclusive('\n') {
        with.push_str(line);
        for address in announce {
            if let Some(candidate) = candidate_at(line, *address) {
                with.push_str(&candidate);
            }
        }
    }
    with
}

/// The candidate of `line` as seen at `address`. Source: RFC 8839 5.1.
fn candidate_at(line: &str, address: IpAddr) -> Option<String> {
    let rest = line.strip_prefix("a=candidate:")?.trim_end();
    let mut fields = rest.split(' ');
    let (foundation, component, protocol) = (fields.next()?, fields.next()?, fields.next()?);
    let priority: u32 = fields.next()?.parse().ok()?;
    let own: IpAddr = fields.next()?.parse().ok()?;
    let port = fields.next()?;
    let host = (fields.next(), fields.next()) == (Some("typ"), Some("host"));
    let here = own.is_ipv4() == address.is_ipv4() && !own.is_loopback() && own != address;
    let priority = priority.saturating_sub(1);
    (host && here).then(|| {
        format!(
            "a=candidate:{foundation}0 {component} {protocol} {priority} {address} {port} typ host\r\n"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_leased_one_by_one_and_come_back() {
        let bind = [([127, 0, 0, 1], 0).into()];
        // Three in a row that are free just now.
        let range = (20_000..60_000)
            .step_by(3)
            .map(|first| PortRange::new(first..=first + 2).unwrap())
            .find(|range| {
                let taken: Vec<_> = (0..3).map_while(|_| range.take(&bind)).collect();
                taken.len() == 3
            })
            .unwrap();
        let mut leases: Vec<_> = (0..3).map(|_| range.take(&bind).unwrap()).collect();
        let ports: BTreeSet<u16> = leases.iter().map(|lease| lease.port).collect();
        assert_eq!(ports.len(), 3);
        assert!(range.clone().take(&bind).is_none(), "clones share them");
        let given_back = leases.remove(1).port;
        assert_eq!(range.take(&bind).unwrap().port, given_back);
        // Somebody else has it.
        let other = UdpSocket::bind(("127.0.0.1", given_back)).unwrap();
        assert!(range.take(&bind).is_none());
        drop(other);
        let lease = range.take(&bind).unwrap();
        let named = ([127, 0, 0, 1], 7).into();
        let expect = [([127, 0, 0, 1], given_back).into(), named];
        assert_eq!(lease.addresses(&[bind[0], named]), expect);
    }

    #[test]
    fn port_ranges_are_written_lower_first() {
        assert_eq!("5-7".parse::<PortRange>().unwrap().ports, 5..=7);
        for bad in ["", "5", "7-5", "0-5", "1-70000", "a-b"] {
            assert!(bad.parse::<PortRange>().is_err(), "{bad}");
        }
    }

    #[test]
    fn of_ipv6_a_few_addresses_are_chosen_that_can_be_bound() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let six = |text: &str| text.parse::<Ipv6Addr>().unwrap();
        let chosen = |first: Option<&str>, own: &[IpAddr]| {
            let first = first.map(six);
            chosen_ipv6(first, own, |ip| *ip != six("fd00::dead"))
        };
        let own: Vec<_> = ["127.0.0.1", "::1", "192.168.1.2", "fe80::1", "fd00::dead"]
            .into_iter()
            .chain([
                "2001:db8::2",
                "2001:db8::3",
                "fd00::4",
                "fd00::5",
                "fd00::6",
            ])
            .map(ip)
            .collect();
        assert_eq!(
            chosen(Some("2001:db8::3"), &own),
            ["2001:db8::3", "2001:db8::2", "fd00::4", "fd00::5", "::1"].map(six)
        );
        assert_eq!(chosen(None, &own[..6]), ["2001:db8::2", "::1"].map(six));
        assert_eq!(chosen(None, &own[..4]), [six("::1")]);
        // A machine with a bridge for each of its containers.
        let bridges: Vec<_> = (0..14).map(|at| [172, 17, at, 1].into()).collect();
        let many = [&bridges[..], &own].concat();
        assert!(chosen(None, &many).is_empty());
        assert_eq!(
            chosen(None, &many[2..]),
            [six("2001:db8::2"), six("2001:db8::3")]
        );
        // Without IPv6.
        assert!(chosen_ipv6(Some(six("fd00::4")), &own, |_| false).is_empty());
    }

    #[test]
    fn all_of_ipv6_is_addresses_that_can_be_bound_and_all_else_stays() {
        let four: [SocketAddr; 2] = [([0, 0, 0, 0], 0).into(), ([127, 0, 0, 1], 7).into()];
        let six = "[2001:db8::7]:9".parse().unwrap();
        let named = [four[0], six, four[1]];
        assert_eq!(with_ipv6(&named), named);
        let any = [four[0], "[::]:0".parse().unwrap(), six, four[1]];
        let all = with_ipv6(&any);
        assert_eq!(all[..3], named);
        let chosen = &all[3..];
        assert!(chosen.len() <= 5, "{chosen:?}");
        for address in chosen {
            assert!(address.is_ipv6() && !address.ip().is_unspecified());
            assert!(UdpSocket::bind(address).is_ok(), "{address}");
        }
        let has_any = UdpSocket::bind("[::1]:0").is_ok();
        assert_eq!(has_any, chosen.contains(&"[::1]:0".parse().unwrap()));
    }

    #[test]
    fn announced_addresses_stand_beside_the_hosts_own() {
        let line = "a=candidate:12 1 udp 2130706431 192.168.1.2 5000 typ host\r\n";
        let six = "a=candidate:13 1 udp 99 fd00::1 5001 typ host\r\n";
        let other = "a=candidate:1 1 udp 1 192.168.1.2 5 typ srflx raddr 0.0.0.0 rport 0\r\n\
            a=candidate:2 1 udp 1 127.0.0.1 5 typ host\r\na=mid:0\r\n";
        let public: Vec<IpAddr> = ["203.0.113.7", "2001:db8::7"]
            .map(|address| address.parse().unwrap())
            .to_vec();
        assert_eq!(
            announced(&[line, six, other].concat(), &public),
            [
                line,
                "a=candidate:120 1 udp 2130706430 203.0.113.7 5000 typ host\r\n",
                six,
                "a=candidate:130 1 udp 98 2001:db8::7 5001 typ host\r\n",
                other
            ]
            .concat()
        );
    }

    #[test]
    fn a_turn_password_is_never_shown() {
        let server = IceServer {
            url: "turn:turn.example.com".to_owned(),
            username: "me".to_owned(),
            credential: Zeroizing::new("secret".to_owned()),
        };
        assert!(!format!("{server:?}").contains("secret"));
    }
}
