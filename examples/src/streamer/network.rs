//! How viewers reach the streamer's media, as the user says it.

use std::net::{IpAddr, SocketAddr};

use clap::Args;
use streampay_media::peer::{IceServer, PeerConfig, PortRange};
use zeroize::Zeroizing;

use crate::error::AppError;

/// Options for media over UDP. Without any, all IPv4 interfaces and any ports are used.
#[derive(Args, Clone, Debug, Default)]
pub struct Network {
    /// An address to send and receive media at, instead of all IPv4 interfaces; several times for
    /// several, such as --media-bind 192.0.2.1 --media-bind 2001:db8::1.
    #[arg(long, value_name = "ADDRESS")]
    media_bind: Vec<IpAddr>,
    /// The UDP ports for media that the firewall lets through, such as 40000-40999: one a viewer.
    #[arg(long, value_name = "FIRST-LAST")]
    media_ports: Option<PortRange>,
    /// A public address of a NAT that passes these ports on to this machine.
    #[arg(long, value_name = "ADDRESS")]
    announce: Vec<IpAddr>,
    /// A STUN server, such as stun:stun.example.com:3478, to learn one's address behind a NAT.
    #[arg(long, value_name = "URL")]
    stun: Vec<String>,
    /// A TURN server, such as turn:turn.example.com:3478, to be reached through. Its user and
    /// password are in `STREAMPAY_TURN_USER` and `STREAMPAY_TURN_PASSWORD`.
    #[arg(long, value_name = "URL")]
    turn: Option<String>,
    /// Media goes through the TURN server alone: viewers learn no address of this machine.
    #[arg(long, requires = "turn")]
    relay_only: bool,
}

impl Network {
    /// As the library takes it.
    ///
    /// # Errors
    /// [`AppError::Usage`]: a URL of another kind, or a TURN server without its user.
    pub fn config(self) -> Result<PeerConfig, AppError> {
        let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        self.config_with(variable)
    }

    fn config_with(
        self,
        variable: impl Fn(&'static str) -> Option<String>,
    ) -> Result<PeerConfig, AppError> {
        let mut config = PeerConfig {
            ports: self.media_ports,
            announce: self.announce,
            relay_only: self.relay_only,
            ..PeerConfig::default()
        };
        if !self.media_bind.is_empty() {
            let addresses = self.media_bind.iter();
            config.bind = addresses.map(|ip| SocketAddr::new(*ip, 0)).collect();
        }
        for url in self.stun {
            if !url.starts_with("stun:") {
                return Err(AppError::Usage("a STUN server is given as stun:HOST:PORT"));
            }
            config.ice_servers.push(IceServer {
                url,
                username: String::new(),
                credential: Zeroizing::default(),
            });
        }
        if let Some(url) = self.turn {
            if !url.starts_with("turn:") {
                return Err(AppError::Usage("a TURN server is given as turn:HOST:PORT"));
            }
            let user = variable("STREAMPAY_TURN_USER");
            let (Some(username), Some(credential)) = (user, variable("STREAMPAY_TURN_PASSWORD"))
            else {
                return Err(AppError::Usage(
                    "a TURN server needs STREAMPAY_TURN_USER and STREAMPAY_TURN_PASSWORD set",
                ));
            };
            config.ice_servers.push(IceServer {
                url,
                username,
                credential: Zeroizing::new(credential),
            });
        }
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_need_their_kind_and_turn_its_user() {
        let with = |stun: &str, turn: Option<&str>| Network {
            stun: vec![stun.to_owned()],
            turn: turn.map(str::to_owned),
            ..Network::default()
        };
        let none = |_| None;
        let set = |name: &'static str| Some(format!("{name} value"));
        assert!(with("turn:a:1", None).config_with(none).is_err());
        assert!(with("stun:a:1", Some("stun:a:1")).config_with(set).is_err());
        assert!(
            with("stun:a:1", Some("turn:a:1"))
                .config_with(none)
                .is_err()
        );
        let config = with("stun:a:1", Some("turn:a:1")).config_with(set).unwrap();
        let turn = &config.ice_servers[1];
        assert_eq!(config.ice_servers.len(), 2);
        assert_eq!(turn.username, "STREAMPAY_TURN_USER value");
        assert_eq!(*turn.credential, "STREAMPAY_TURN_PASSWORD value");
    }

    #[test]
    fn named_addresses_stand_for_all_interfaces() {
        let network = Network {
            media_bind: vec!["2001:db8::1".parse().unwrap()],
            media_ports: "40000-40010".parse().ok(),
            ..Network::default()
        };
        let config = network.config_with(|_| None).unwrap();
        let expect: SocketAddr = "[2001:db8::1]:0".parse().unwrap();
        assert_eq!(config.bind, [expect]);
        assert!(config.ports.is_some());
    }
}
