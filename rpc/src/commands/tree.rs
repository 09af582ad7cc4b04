//! `commands`: which commands there are.

use serde::{Deserialize, Serialize};

use super::{Visitor, visit};
use crate::command::{Binder, Command, JsonEvent, Output};
use crate::context::Context;
use crate::error::Result;

/// Tells which commands there are.
#[derive(Debug, Clone, Default)]
pub struct Commands;

/// A command and those below it. Source: Kubo `core/commands/commands.go`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Branch {
    /// Name.
    pub name: String,
    /// Commands below it.
    pub subcommands: Vec<Branch>,
    /// Its options; not told.
    pub options: Vec<String>,
}

impl JsonEvent for Branch {}

impl Visitor for Branch {
    fn command<C: Command>(&mut self) {
        let mut branch = self;
        for name in C::PATH.split('/') {
            let index = match branch.subcommands.iter().position(|known| known.name == name) {
                Some(index) => index,
                None => {
                    branch.subcommands.push(Self { name: name.to_owned(), ..Self::default() });
                    branch.subcommands.len() - 1
                }
            };
            branch = &mut branch.subcommands[index];
        }
    }
}

impl Command for Commands {
    const PATH: &'static str = "commands";
    type Event = Branch;

    fn bind(&mut self, _binder: &mut Binder) -> Result<()> {
        Ok(())
    }

    fn is_stream(&self) -> bool {
        false
    }

    async fn run(self, _context: Context, output: Output<Branch>) -> Result<()> {
        let mut root = Branch { name: "cairn".to_owned(), ..Branch::default() };
        visit(&mut root);
        output.send(root).await
    }
}
