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
use multibase::Base;
use tracing::warn;

use crate::settings::SwarmSettings;
use crate::settings::config::BOOTSTRAP;
use crate::settings::reach::ReachSettings;
use crate::{Error, Kind, Result};

pub use libp2p::pnet::PreSharedKey;

/// Length of a key, in bytes.
const KEY_BYTES: usize = 32;

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
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            let message = format!("cannot read {}", path.display());
            return Err(Error::new(Kind::Unavailable, message).with_cause(error));
        }
    };
    let form =
        "/key/swarm/psk/1.0.0/, then /base16/, /base64/ or /bin/, then 32 bytes so encoded, each on a line";
    let no_key = || Error::invalid(format!("{} is no key, which is {form}", path.display()));
    Ok(Some(decode(&bytes).ok_or_else(no_key)?))
}

/// The key in a file of version 1. Bytes behind it mean nothing.
///
/// Source: go-libp2p `core/pnet/codec.go`.
fn decode(file: &[u8]) -> Option<PreSharedKey> {
    let (version, rest) = first_line(file)?;
    let (encoding, rest) = first_line(rest)?;
    let text = || Some(std::str::from_utf8(rest).ok()?.trim_ascii());
    let bytes = match (version, encoding) {
        (b"/key/swarm/psk/1.0.0/", b"/base16/") => {
            Base::Base16Lower.decode(text()?.get(..2 * KEY_BYTES)?.to_ascii_lowercase()).ok()?
        }
        (b"/key/swarm/psk/1.0.0/", b"/base64/") => Base::Base64Pad.decode(text()?).ok()?,
        (b"/key/swarm/psk/1.0.0/", b"/bin/") => rest.to_vec(),
        _ => return None,
    };
    Some(PreSharedKey::new(*bytes.first_chunk::<KEY_BYTES>()?))
}

/// A line without what ends it, and what is behind it.
fn first_line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    Some((bytes[..end].trim_ascii_end(), &bytes[end + 1..]))
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

    fn joined(key: Option<&[u8]>, change: impl FnOnce(&mut SwarmSettings)) -> Result<SwarmSettings> {
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
        assert!(joined(Some(KEY.as_bytes()), |settings| settings.must_be_private = true).is_ok());
    }

    #[test]
    fn with_a_key_only_tcp_and_own_peers_are_left() {
        let own: Multiaddr = format!("/ip4/10.0.0.1/tcp/1/p2p/{}", libp2p::PeerId::random()).parse().unwrap();
        let private = joined(Some(KEY.as_bytes()), |settings| {
            settings.bootstrap = BOOTSTRAP.iter().map(|addr| addr.parse().unwrap()).collect();
            settings.bootstrap.push(own.clone());
            settings.reach.maps_ports = true;
        });
        let private = private.unwrap();
        assert_eq!(private.listen, ["/ip4/127.0.0.1/tcp/0".parse().unwrap()]);
        assert_eq!((private.bootstrap, private.reach), (vec![own], ReachSettings::NONE));
        assert_eq!(private.private_network.unwrap().to_key_file(), KEY);
        let error = joined(Some(KEY.as_bytes()), |settings| drop(settings.listen.remove(0))).unwrap_err();
        assert!(error.to_string().contains("TCP"), "{error}");
    }

    #[test]
    fn a_key_may_be_written_in_base16_base64_and_as_it_is() {
        let bytes: [u8; KEY_BYTES] = std::array::from_fn(|index| u8::try_from(index).unwrap() + 1);
        // Source of the forms: the encoders of coreutils (`basenc`).
        let base16 = "0102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F20";
        let base64 = "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=";
        for (encoding, key) in [
            ("base16", base16.as_bytes()),
            ("base16", base16.to_lowercase().as_bytes()),
            ("base64", base64.as_bytes()),
            ("bin", &bytes),
        ] {
            for end in ["\n", "\r\n"] {
                let head = format!("/key/swarm/psk/1.0.0/{end}/{encoding}/{end}");
                let settings = joined(Some(&[head.as_bytes(), key].concat()), |_| ()).unwrap();
                assert_eq!(settings.private_network, Some(PreSharedKey::new(bytes)), "{encoding}");
            }
        }
    }

    #[test]
    fn a_file_that_is_no_key_is_refused() {
        for text in [
            "",
            "/key/swarm/psk/1.0.0/",
            "/key/swarm/psk/1.0.0/\n/base16/\n01",
            "/key/swarm/psk/2.0.0/\n/base16/\n0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20",
            "/key/swarm/psk/1.0.0/\n/base64/\nAQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0e",
            "/key/swarm/psk/1.0.0/\n/base32/\naebagbafaydqqcikbmga2dqpcaireeyuculbogazdinryhi6d4qa",
            "/key/swarm/psk/1.0.0/\n/bin/\nshort",
        ] {
            assert_eq!(joined(Some(text.as_bytes()), |_| ()).unwrap_err().kind(), Kind::Invalid, "{text}");
        }
    }
}
