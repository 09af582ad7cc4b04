//! What a download waits for, said on a terminal while nothing arrives.

use std::time::Duration;

use cairn_rpc::client::Client;
use cairn_rpc::commands::bitswap::{Waiting, WaitsFor};
use cairn_rpc::context::CallOptions;
use cairn_rpc::{Events, Piece};
use futures::{StreamExt as _, TryStreamExt as _};
use indicatif::ProgressBar;
use tokio::time::timeout;

/// Time without a byte after which it is said what is waited for, and then again.
const PATIENCE: Duration = Duration::from_secs(1);

/// Passes on what a daemon sends; while nothing comes, says on `bar` what the daemon waits for.
pub(crate) fn explained(
    pieces: Events<Piece>,
    client: Client,
    options: CallOptions,
    bar: ProgressBar,
) -> Events<Piece> {
    let state = (pieces, client, options, bar);
    futures::stream::unfold(state, |(mut pieces, client, options, bar)| async move {
        loop {
            if let Ok(piece) = timeout(PATIENCE, pieces.next()).await {
                bar.set_message("");
                return Some((piece?, (pieces, client, options, bar)));
            }
            let mut answer = client.run(Waiting, options.clone());
            // Without an answer in time the next one tells.
            if let Ok(Ok(Some(waits_for))) = timeout(PATIENCE, answer.try_next()).await {
                bar.set_message(text(&waits_for));
            }
        }
    })
    .boxed()
}

fn text(waits_for: &WaitsFor) -> String {
    let count = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    let providers = match waits_for.providers_found {
        0 => "no provider found yet".to_owned(),
        found => format!("{} found", count(found, "provider")),
    };
    let blocks = count(waits_for.blocks, "block");
    format!("waiting for {blocks}: {} asked, {providers}", count(waits_for.peers_asked, "peer"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_read_how_many_are_asked_and_found() {
        let text =
            |blocks, peers_asked, providers_found| text(&WaitsFor { blocks, peers_asked, providers_found });
        assert_eq!(text(1, 0, 0), "waiting for 1 block: 0 peers asked, no provider found yet");
        assert_eq!(text(12, 1, 3), "waiting for 12 blocks: 1 peer asked, 3 providers found");
    }
}
