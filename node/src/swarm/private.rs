//! Private networks: peers that share a key, and talk to nobody else.
//!
//! Invariant: a node with a key has no way to the public network. It listens and dials over TCP only, where each
//! connection is ciphered with the key, and knows no peer of the public list.
//!
//! Source: <https://github.com/libp2p/specs/blob/master/pnet/Private-Networks-PSK-V1.md>.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;
use tracing::warn;

use crate::settings::SwarmSettings;
use crate::settings::config::BOOTSTRAP;
use crate::settings::reach::ReachSettings;
use crate::{Error, Kind, Result};

pub use libp2p::pnet::PreSharedKey;

/// Name of the file with the key in a repo.
pub const KEY_FILE: &str = "swarm.key";

/// Makes the network private if the repo holds a key, and takes every public way out of the settings.
///
/// # Errors
/// [`Kind::Invalid`] for a file that is no key, without a key where one is required, and when nothing is left to listen on;
/// [`Kind::Unavailable`] for a file that cannot be read.
pub(crate) fn join(settings: &mut SwarmSettings, repo: &Path) -> Result<()> {
    let Some(key) = read_key(repo)? else {
        if settings.must_be_private {
            return Err(Error::invalid(format!(
                "the network must be private, but there is no {KEY_FILE} in the repo"
            )));
        }
        return Ok(());
    };
    settings.private_network = Some(key);
    settings.bootstrap.retain(|addr| !is_public_host(addr));
    // Nobody outside is asked, told, or relayed for.
    settings.reach = ReachSettings::NONE;
    let had_listeners = !settings.listen.is_empty();
    settings.listen.retain(|addr| {
        let is_tcp = is_plain_tcp(addr);
        if !is_tcp {
            warn!(%addr, "not listening there: a private network is TCP only");
        }
        is_tcp
    });
    if had_listeners && settings.listen.is_empty() {
        return Err(Error::invalid("a private network is TCP only, and Addresses.Swarm has no such address"));
    }
    Ok(())
}

fn read_key(repo: &Path) -> Result<Option<PreSharedKey>> {
    let path = repo.join(KEY_FILE);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            let message = format!("cannot read {}", path.display());
            return Err(Error::new(Kind::Unavailable, message).with_cause(error));
        }
    };
    let key = text.parse().map_err(|error| {
        let form = "three lines: /key/swarm/psk/1.0.0/, /base16/ and 64 hexadecimal digits";
        Error::invalid(format!("{} is no key: {error}; it has {form}", path.display()))
    })?;
    Ok(Some(key))
}

fn is_public_host(addr: &Multiaddr) -> bool {
    let text = addr.to_string();
    BOOTSTRAP.iter().any(|public| *public == text)
}

fn is_plain_tcp(addr: &Multiaddr) -> bool {
    let is_p2p = |part: &Protocol<'_>| matches!(part, Protocol::P2p(_));
    matches!(addr.iter().filter(|part| !is_p2p(part)).nth(1), Some(Protocol::Tcp(_)))
        && addr.iter().filter(|part| !is_p2p(part)).count() == 2
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::swarm::testing::settings;

    /// As `ipfs-swarm-key-gen` writes it.
    const KEY: &str = "/key/swarm/psk/1.0.0/\n/base16/\n\
        0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20\n";

    fn joined(key: Option<&str>, change: impl FnOnce(&mut SwarmSettings)) -> Result<SwarmSettings> {
        let repo = tempfile::tempdir().unwrap();
        if let Some(key) = key {
            fs::write(repo.path().join(KEY_FILE), key).unwrap();
        }
        let mut settings =
            settings(&["/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/tcp/0/ws", "/ip4/127.0.0.1/udp/0/quic-v1"]);
        change(&mut settings);
        join(&mut settings, repo.path()).map(|()| settings)
    }

    #[test]
    fn without_a_key_nothing_changes_unless_one_is_required() {
        let open = joined(None, |_| ()).unwrap();
        assert_eq!((open.listen.len(), open.private_network), (3, None));
        let error = joined(None, |settings| settings.must_be_private = true).unwrap_err();
        assert_eq!(error.kind(), Kind::Invalid);
        assert!(error.to_string().contains(KEY_FILE), "{error}");
        assert!(joined(Some(KEY), |settings| settings.must_be_private = true).is_ok());
    }

    #[test]
    fn with_a_key_only_tcp_and_own_peers_are_left() {
        let own: Multiaddr = format!("/ip4/10.0.0.1/tcp/1/p2p/{}", libp2p::PeerId::random()).parse().unwrap();
        let private = joined(Some(KEY), |settings| {
            settings.bootstrap = BOOTSTRAP.iter().map(|addr| addr.parse().unwrap()).collect();
            settings.bootstrap.push(own.clone());
            settings.reach.maps_ports = true;
        });
        let private = private.unwrap();
        assert_eq!(private.listen, ["/ip4/127.0.0.1/tcp/0".parse().unwrap()]);
        assert_eq!((private.bootstrap, private.reach), (vec![own], ReachSettings::NONE));
        assert_eq!(private.private_network.unwrap().to_key_file(), KEY);
        let error = joined(Some(KEY), |settings| drop(settings.listen.remove(0))).unwrap_err();
        assert!(error.to_string().contains("TCP"), "{error}");
    }

    #[test]
    fn a_file_that_is_no_key_is_refused() {
        for text in [
            "",
            "/key/swarm/psk/1.0.0/",
            "/key/swarm/psk/1.0.0/\n/base16/\n01",
            "/key/swarm/psk/2.0.0/\n/base16/\n00",
        ] {
            assert_eq!(joined(Some(text), |_| ()).unwrap_err().kind(), Kind::Invalid, "{text}");
        }
    }
}
