//! `swarm filters`, `swarm filters add`, `swarm filters rm`: networks that are neither dialled nor let in.
//!
//! What they change holds at once, and is written into `Swarm.AddrFilters` of the configuration.

use cairn_node::settings::addresses::{network_text, parse_network};
use cairn_node::settings::config::Config;
use cairn_node::swarm::Handle;
use serde_json::Value;

use super::{Lines, online};
use crate::command::{Binder, Command, Output};
use crate::context::Context;
use crate::error::{Error, Result};

/// Key of the configuration that has them.
const KEY: &str = "Swarm.AddrFilters";

/// Lists them.
#[derive(Debug, Clone, Default)]
pub struct Filters;

impl Command for Filters {
    const PATH: &'static str = "swarm/filters";
    type Event = Lines;

    fn bind(&mut self, _binder: &mut Binder) -> Result<()> {
        Ok(())
    }

    fn is_stream(&self) -> bool {
        false
    }

    async fn run(self, context: Context, output: Output<Lines>) -> Result<()> {
        let swarm = online(&context).await?;
        output.send(Lines { strings: texts(swarm) }).await
    }
}

/// Refuses further networks.
#[derive(Debug, Clone, Default)]
pub struct Add {
    /// Each as `/ip4/10.0.0.0/ipcidr/8`.
    pub networks: Vec<String>,
}

impl Command for Add {
    const PATH: &'static str = "swarm/filters/add";
    type Event = Lines;

    fn bind(&mut self, binder: &mut Binder) -> Result<()> {
        binder.args("address", 1, &mut self.networks)
    }

    fn is_stream(&self) -> bool {
        false
    }

    async fn run(self, context: Context, output: Output<Lines>) -> Result<()> {
        let swarm = online(&context).await?;
        let mut filters = texts(swarm);
        let mut added = Vec::new();
        for text in &self.networks {
            let network = network_text(&parse_network(text).map_err(Error::client)?);
            if !filters.contains(&network) {
                filters.push(network.clone());
                added.push(network);
            }
        }
        apply(&context, swarm, filters)?;
        output.send(Lines { strings: added }).await
    }
}

/// Refuses networks no longer.
#[derive(Debug, Clone, Default)]
pub struct Rm {
    /// Each as `/ip4/10.0.0.0/ipcidr/8`, or `all`.
    pub networks: Vec<String>,
}

impl Command for Rm {
    const PATH: &'static str = "swarm/filters/rm";
    type Event = Lines;

    fn bind(&mut self, binder: &mut Binder) -> Result<()> {
        binder.args("address", 1, &mut self.networks)
    }

    fn is_stream(&self) -> bool {
        false
    }

    async fn run(self, context: Context, output: Output<Lines>) -> Result<()> {
        let swarm = online(&context).await?;
        let is_all = matches!(&self.networks[..], [one] if one == "all");
        let mut named = Vec::new();
        for text in self.networks.iter().filter(|_| !is_all) {
            named.push(network_text(&parse_network(text).map_err(Error::client)?));
        }
        let (removed, left) = texts(swarm).into_iter().partition(|network| is_all || named.contains(network));
        apply(&context, swarm, left)?;
        output.send(Lines { strings: removed }).await
    }
}

fn texts(swarm: &Handle) -> Vec<String> {
    swarm.filters().iter().map(network_text).collect()
}

/// Writes the filters down, then lets them hold.
fn apply(context: &Context, swarm: &Handle, filters: Vec<String>) -> Result<()> {
    let networks = filters.iter().map(|text| parse_network(text)).collect::<Result<Vec<_>, _>>();
    let networks = networks.map_err(Error::client)?;
    let value = Value::Array(filters.into_iter().map(Value::String).collect());
    Config::edit(context.repo.path(), |config| config.set(KEY, value.clone()))?;
    swarm.set_filters(networks);
    Ok(())
}
