//! `cairn id`.

use anyhow::Result;
use cairn_rpc::commands::id::{Id, Identity};

use crate::args::Encoding;
use crate::session::Session;
use crate::terminal::{escape, print_line};

/// Shows who this node or another peer is.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Peer ID; this node without one.
    #[arg(value_name = "PEER")]
    peer: Option<String>,
    /// Text to print: <id>, <aver>, <pver>, <pubkey>, <addrs> and <protocols> are replaced, \n and \t understood.
    #[arg(long, short, value_name = "TEXT")]
    format: Option<String>,
    /// Base of peer IDs; only b58mh.
    #[arg(long, value_name = "BASE")]
    peerid_base: Option<String>,
}

pub(super) async fn run(args: Args, session: &Session) -> Result<()> {
    let command = Id { peer: args.peer, peer_id_base: args.peerid_base };
    if session.encoding() == Encoding::Json {
        return session.print(command, |_, _| Ok(())).await;
    }
    let identity = session.one(command).await?;
    match args.format {
        None => Ok(print_line(&pretty(&identity)?)?),
        Some(format) => {
            print!("{}", fill(&format, &identity));
            Ok(())
        }
    }
}

/// JSON indented by tabs, as Kubo prints it.
fn pretty(identity: &Identity) -> Result<String> {
    let mut out = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"\t");
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, formatter);
    serde::Serialize::serialize(identity, &mut serializer)?;
    Ok(String::from_utf8(out)?)
}

/// Source of the words: Kubo `core/commands/id.go`.
fn fill(format: &str, identity: &Identity) -> String {
    let lines = |list: &Option<Vec<String>>| list.as_deref().unwrap_or_default().join("\n");
    let filled = format
        .replace("\\n", "\n")
        .replace("\\t", "\t")
        .replace("<id>", &identity.id)
        .replace("<aver>", &identity.agent_version)
        .replace("<pver>", "ipfs/0.1.0")
        .replace("<pubkey>", &identity.public_key)
        .replace("<addrs>", &lines(&identity.addresses))
        .replace("<protocols>", &lines(&identity.protocols));
    // What a peer says of itself is escaped; the user's own line ends and tabs stay.
    filled
        .split_inclusive(['\n', '\t'])
        .map(|part| {
            let end = part.len()
                - part.chars().next_back().filter(|c| matches!(c, '\n' | '\t')).map_or(0, char::len_utf8);
            format!("{}{}", escape(&part[..end]), &part[end..])
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_format_is_filled_and_what_a_peer_says_is_escaped() {
        let identity = Identity {
            id: "12D3".into(),
            public_key: "key".into(),
            addresses: Some(vec!["/a".into(), "/b".into()]),
            agent_version: "evil\u{1b}[2J".into(),
            protocols: None,
        };
        assert_eq!(fill("<id>\\t<aver>\\n<addrs>\\n", &identity), "12D3\tevil\\x1b[2J\n/a\n/b\n");
    }
}
