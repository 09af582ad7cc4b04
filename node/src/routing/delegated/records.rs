//! What servers of the routing API answer, read as it comes: JSON as a whole, or one record for each line.
//!
//! Nothing in it is believed: lines, records and addresses are bounded, and what cannot be read is passed over.

use bytes::{Buf as _, Bytes, BytesMut};
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};
use serde::Deserialize;
use serde_json::Value;

use crate::swarm::Provider;

/// Longest record, in bytes.
const MAX_RECORD_BYTES: usize = 64 * 1024;
/// Longest answer that comes as a whole, in bytes: a hundred records, which is what the specification allows.
const MAX_LIST_BYTES: usize = 1024 * 1024;
/// Longest answer of lines, in bytes.
const MAX_STREAM_BYTES: usize = 8 * 1024 * 1024;
/// Addresses of one record that are read.
const MAX_ADDRS: usize = 32;

/// Reads one answer.
#[derive(Debug)]
pub(super) struct Reader {
    form: Form,
    buffer: BytesMut,
    /// Bytes at its start in which no line ends.
    searched: usize,
    read_bytes: usize,
}

/// The form of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// `application/x-ndjson`.
    Lines,
    /// `application/json`.
    List,
}

impl Form {
    /// The form of a media type.
    pub(super) fn of(media_type: &str) -> Option<Self> {
        match media_type.split(';').next().unwrap_or_default().trim() {
            "application/x-ndjson" => Some(Self::Lines),
            "application/json" => Some(Self::List),
            _ => None,
        }
    }
}

/// The answer is longer than an honest one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the answer is too long")]
pub(super) struct TooLong;

impl Reader {
    pub(super) fn new(form: Form) -> Self {
        Self { form, buffer: BytesMut::new(), searched: 0, read_bytes: 0 }
    }

    /// Takes a piece, and returns the records that end in it.
    ///
    /// # Errors
    /// [`TooLong`].
    pub(super) fn push(&mut self, piece: &Bytes) -> Result<Vec<Provider>, TooLong> {
        self.read_bytes += piece.len();
        let (max_buffer, max_all) = match self.form {
            Form::Lines => (MAX_RECORD_BYTES, MAX_STREAM_BYTES),
            Form::List => (MAX_LIST_BYTES, MAX_LIST_BYTES),
        };
        if self.read_bytes > max_all {
            return Err(TooLong);
        }
        self.buffer.extend_from_slice(piece);
        let mut found = Vec::new();
        if self.form == Form::Lines {
            while let Some(at) = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n') {
                let line = self.buffer.split_to(self.searched + at);
                self.buffer.advance(1);
                self.searched = 0;
                found.extend(parse(&line));
            }
            self.searched = self.buffer.len();
        }
        if self.buffer.len() > max_buffer { Err(TooLong) } else { Ok(found) }
    }

    /// The records that are left at the end.
    pub(super) fn finish(self) -> Vec<Provider> {
        match self.form {
            Form::Lines => parse(&self.buffer).into_iter().collect(),
            Form::List => parse_list(&self.buffer),
        }
    }
}

/// A record of the schemas `peer` and, as it was before, `bitswap`.
///
/// Source: <https://specs.ipfs.tech/routing/http-routing-v1/#known-schemas>.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Record {
    schema: String,
    #[serde(rename = "ID")]
    id: Option<String>,
    addrs: Option<Vec<Value>>,
}

fn parse(line: &[u8]) -> Option<Provider> {
    provider(serde_json::from_slice(line).ok()?)
}

fn parse_list(bytes: &[u8]) -> Vec<Provider> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct List {
        #[serde(alias = "Peers")]
        providers: Option<Vec<Value>>,
    }
    let list = serde_json::from_slice::<List>(bytes).ok().and_then(|list| list.providers);
    let records = list.unwrap_or_default().into_iter();
    records.filter_map(|record| provider(serde_json::from_value(record).ok()?)).collect()
}

fn provider(record: Record) -> Option<Provider> {
    if !matches!(record.schema.as_str(), "peer" | "bitswap") {
        return None;
    }
    let peer: PeerId = record.id?.parse().ok()?;
    let addrs = record.addrs.unwrap_or_default().into_iter().take(MAX_ADDRS);
    let addrs = addrs.filter_map(|addr| {
        let mut addr: Multiaddr = addr.as_str()?.parse().ok()?;
        match addr.iter().last() {
            Some(Protocol::P2p(other)) if other != peer => None,
            Some(Protocol::P2p(_)) => {
                addr.pop();
                Some(addr)
            }
            _ => Some(addr),
        }
    });
    Some(Provider { peer, addrs: addrs.collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: &str = "12D3KooWM8sovaEGU1bmiWGWAzvs47DEcXKZZTuJnpQyVTkRs2Vn";

    /// Source of the form: the specification, `peer` schema.
    fn record(addr: &str) -> String {
        format!(
            r#"{{"Schema":"peer","ID":"{PEER}","Addrs":["{addr}"],"Protocols":["transport-bitswap"],"New":{{}}}}"#
        )
    }

    fn expected(addr: &str) -> Provider {
        Provider { peer: PEER.parse().unwrap(), addrs: vec![addr.parse().unwrap()] }
    }

    #[test]
    fn lines_are_read_however_they_are_cut() {
        let other = r#"{"Schema":"unknown","Anything":1}"#;
        let text = [record("/ip4/192.0.2.1/tcp/1"), other.into(), "x".into(), record("/ip4/192.0.2.2/tcp/1")];
        let text = text.join("\n");
        let whole = [expected("/ip4/192.0.2.1/tcp/1"), expected("/ip4/192.0.2.2/tcp/1")];
        for size in [1, 7, 100, text.len()] {
            let mut reader = Reader::new(Form::Lines);
            let mut found = Vec::new();
            for piece in text.as_bytes().chunks(size) {
                found.extend(reader.push(&Bytes::copy_from_slice(piece)).unwrap());
            }
            found.extend(reader.finish());
            assert_eq!(found, whole, "{size}");
        }
    }

    #[test]
    fn lists_of_providers_and_of_peers_are_read() {
        for (name, addr) in
            [("Providers", "/dns/a.example/tcp/443/tls/http"), ("Peers", "/ip6/::1/udp/1/quic-v1")]
        {
            let text = format!(r#"{{"{name}":[{},{{"Schema":7}},null]}}"#, record(addr));
            let mut reader = Reader::new(Form::List);
            assert_eq!(reader.push(&text.into()), Ok(Vec::new()));
            assert_eq!(reader.finish(), [expected(addr)]);
        }
        for text in ["", "null", "[]", r#"{"Providers":null}"#, r#"{"Providers":7}"#, "{"] {
            let mut reader = Reader::new(Form::List);
            reader.push(&text.into()).unwrap();
            assert_eq!(reader.finish(), []);
        }
    }

    #[test]
    fn old_records_are_read_and_addresses_of_other_peers_are_not() {
        let other = "12D3KooWKwdSiNYuBYBCtqW6bHv6FQ5GW9q3eM7RvoMnpcGvMB8R";
        // Source of the form: IPIP-337, `bitswap` schema.
        let line = format!(
            r#"{{"Protocol":"transport-bitswap","Schema":"bitswap","ID":"{PEER}","Addrs":["/ip4/192.0.2.1/tcp/1/p2p/{PEER}","/ip4/192.0.2.1/tcp/1/p2p/{other}","/nonsense",7]}}"#
        );
        assert_eq!(parse(line.as_bytes()), Some(expected("/ip4/192.0.2.1/tcp/1")));
    }

    #[test]
    fn answers_without_end_are_cut() {
        let endless_line = Bytes::from(vec![b' '; MAX_RECORD_BYTES]);
        let mut reader = Reader::new(Form::Lines);
        assert_eq!(reader.push(&endless_line), Ok(Vec::new()));
        assert_eq!(reader.push(&Bytes::from_static(b" ")), Err(TooLong));

        let mut reader = Reader::new(Form::Lines);
        let lines = Bytes::from(vec![b'\n'; MAX_STREAM_BYTES]);
        assert_eq!(reader.push(&lines), Ok(Vec::new()));
        assert_eq!(reader.push(&Bytes::from_static(b"\n")), Err(TooLong));

        let mut reader = Reader::new(Form::List);
        assert_eq!(reader.push(&Bytes::from(vec![b' '; MAX_LIST_BYTES])), Ok(Vec::new()));
        assert_eq!(reader.push(&Bytes::from_static(b" ")), Err(TooLong));
    }

    #[test]
    fn forms_are_told_by_their_media_type() {
        assert_eq!(Form::of("application/x-ndjson"), Some(Form::Lines));
        assert_eq!(Form::of("application/json; charset=utf-8"), Some(Form::List));
        assert_eq!(Form::of("text/html"), None);
    }
}
