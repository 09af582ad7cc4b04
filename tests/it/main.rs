//! Scenarios that cross crates, in one binary: it links once, and its tests share two cores.

mod acme;
mod arrows;
mod backup;
mod bad_input;
mod browser;
mod conformance;
mod crash;
mod denylists;
mod dht;
mod docker;
mod faults;
mod gateway;
mod helia;
mod kubo;
mod lan;
mod names;
mod nat;
mod pages;
mod peering;
mod peers;
mod pins;
mod private;
mod readme;
mod repair;
mod two_nodes;
mod websocket;
