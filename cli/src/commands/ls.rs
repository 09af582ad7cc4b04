//! `cairn ls`.

use anyhow::Result;
use cairn_rpc::commands::ls::{DIRECTORY, Ls};

use crate::session::Session;
use crate::terminal::escape;

/// Lists folders: CID, size, name.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Paths, as CID/name.
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<String>,
    /// Print a line that names the columns.
    #[arg(long, short = 'v')]
    headers: bool,
    /// Look at each entry to tell what it is.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value_t = true, action = clap::ArgAction::Set)]
    resolve_type: bool,
    /// Look at each entry to tell its size.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value_t = true, action = clap::ArgAction::Set)]
    size: bool,
    /// Print entries as they come; columns are not aligned then.
    #[arg(long, short)]
    stream: bool,
}

pub(super) async fn run(args: Args, session: &Session) -> Result<()> {
    let several = args.paths.len() > 1;
    let (headers, size, stream) = (args.headers, args.size, args.stream);
    let command = Ls { paths: args.paths, resolve_type: args.resolve_type, size, stream };
    let mut current = None;
    session
        .print(command, |out, listing| {
            for object in listing.objects {
                let is_new = current.as_ref() != Some(&object.hash);
                if several && is_new {
                    let gap = if current.is_none() { "" } else { "\n" };
                    super::line!(out, "{gap}{}:", escape(&object.hash))?;
                }
                let mut rows = Vec::new();
                if headers && is_new {
                    rows.push(["Hash".to_owned(), "Size".to_owned(), "Name".to_owned()]);
                }
                rows.extend(object.links.into_iter().map(|link| {
                    let is_folder = link.kind == DIRECTORY;
                    let size = if is_folder { "-".to_owned() } else { link.size.to_string() };
                    [link.hash, size, format!("{}{}", escape(&link.name), if is_folder { "/" } else { "" })]
                }));
                table(out, &rows, size)?;
                current = Some(object.hash);
            }
            Ok(())
        })
        .await
}

/// Columns side by side, each as wide as its widest cell.
fn table(out: &mut String, rows: &[[String; 3]], size: bool) -> Result<()> {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let (first, second) = (width(0), width(1));
    rows.iter().try_for_each(|[hash, len, name]| match size {
        true => super::line!(out, "{hash:first$} {len:second$} {name}"),
        false => super::line!(out, "{hash:first$} {name}"),
    })
}
