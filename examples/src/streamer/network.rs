//! How viewers reach the streamer's media, as the user says it.

use std::net::{IpAddr, SocketAddr};

use clap::Args;
use streampay_media::peer::{IceServer, PeerConfig, PortRange};
use zeroize::Zeroizing;

use crate::error::AppError;
use crate::secret::SecretPlace;

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
    /// A TURN server, such as turn:turn.example.com:3478, to be reached through.
    #[arg(long, value_name = "URL")]
    turn: Option<String>,
    /// Who one is at the TURN server.
    #[arg(long, value_name = "NAME")]
    turn_user: Option<String>,
    /// The password there: env:NAME or file:PATH says where it is.
    #[arg(long, value_name = "PLACE")]
    turn_password: Option<SecretPlace>,
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
        let mut config = PeerConfig {
            ports: self.media_ports,
            announce: self.announce,
            relay_only: self.relay_only,
            ..PeerConfig::default()
        };
        bind(&mut config, &self.media_bind);
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
            let (Some(username), Some(password)) = (self.turn_user, self.turn_password) else {
                return Err(AppError::Usage(
                    "a TURN server needs --turn-user NAME, and --turn-password env:NAME or file:PATH",
                ));
            };
            let credential = password.read()?;
            config.ice_servers.push(IceServer {
                url,
                username,
                credential,
            });
        }
        Ok(config)
    }
}

/// Media is sent and received at these addresses, if there are any.
pub(crate) fn bind(config: &mut PeerConfig, addresses: &[IpAddr]) {
    if !addresses.is_empty() {
        config.bind = addresses.iter().map(|ip| SocketAddr::new(*ip, 0)).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn servers_need_their_kind_and_turn_its_user() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("password");
        std::fs::write(&file, "hunter2\n").unwrap();
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
        let with = |stun: &str, turn: Option<&str>, user: Option<&str>| Network {
            stun: vec![stun.to_owned()],
            turn: turn.map(str::to_owned),
            turn_user: user.map(str::to_owned),
            turn_password: Some(SecretPlace::File(file.clone())),
            ..Network::default()
        };
        for (stun, turn, user) in [
            ("turn:a:1", None, None),
            ("stun:a:1", Some("stun:a:1"), Some("ann")),
            ("stun:a:1", Some("turn:a:1"), None),
        ] {
            assert!(with(stun, turn, user).config().is_err());
        }
        let config = with("stun:a:1", Some("turn:a:1"), Some("ann")).config();
        let config = config.unwrap();
        let turn = &config.ice_servers[1];
        assert_eq!(config.ice_servers.len(), 2);
        assert_eq!(
            (turn.username.as_str(), turn.credential.as_str()),
            ("ann", "hunter2")
        );
    }

    #[test]
    fn named_addresses_stand_for_all_interfaces() {
        let network = Network {
            media_bind: vec!["2001:db8::1".parse().unwrap()],
            media_ports: "40000-40010".parse().ok(),
            ..Network::default()
        };
        let config = network.config().unwrap();
        let expect: SocketAddr = "[2001:db8::1]:0".parse().unwrap();
        assert_eq!(config.bind, [expect]);
        assert!(config.ports.is_some());
    }
}
