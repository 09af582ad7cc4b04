//! Talking to the router: small requests over HTTP, each on a connection of its own.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::ssdp::{Location, parse};

/// Longest exchange.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Longest answer, in bytes.
const MAX_ANSWER_BYTES: u64 = 128 * 1024;
/// Services that open ports, as routers have them.
const SERVICES: [&str; 3] = [
    "urn:schemas-upnp-org:service:WANIPConnection:1",
    "urn:schemas-upnp-org:service:WANIPConnection:2",
    "urn:schemas-upnp-org:service:WANPPPConnection:1",
];

/// A router that opens ports.
#[derive(Debug)]
pub(super) struct Router {
    control: Location,
    service: &'static str,
    /// Address of this computer as the router sees it.
    own_ip: IpAddr,
}

impl Router {
    /// Reads what a router says of itself.
    pub(super) async fn at(location: &Location) -> io::Result<Self> {
        let request = format!("GET {} HTTP/1.0\r\nHost: {}\r\n\r\n", location.path, location.host);
        let (description, own_ip) = exchange(location, &request).await?;
        let (service, url) =
            control(&description).ok_or_else(|| invalid("the router has no service that opens ports"))?;
        let control = if url.starts_with("http:") {
            // No other host may be named.
            parse(url).filter(|control| control.host.ip() == location.host.ip())
        } else {
            parse(&format!("http://{}/{}", location.host, url.trim_start_matches('/')))
        };
        let control = control.ok_or_else(|| invalid("the router's place for requests cannot be read"))?;
        Ok(Self { control, service, own_ip })
    }

    /// Its address on the other side.
    pub(super) async fn public_ip(&self) -> io::Result<Ipv4Addr> {
        let answer = self.call("GetExternalIPAddress", "").await?;
        let ip = element(&answer, "NewExternalIPAddress").and_then(|ip| ip.trim().parse().ok());
        ip.ok_or_else(|| invalid("the router does not tell its address"))
    }

    /// Lets in what comes for a port.
    pub(super) async fn open(&self, protocol: &str, port: u16, lease: Duration) -> io::Result<()> {
        let arguments = format!(
            "<NewRemoteHost></NewRemoteHost><NewExternalPort>{port}</NewExternalPort>\
             <NewProtocol>{protocol}</NewProtocol><NewInternalPort>{port}</NewInternalPort>\
             <NewInternalClient>{}</NewInternalClient><NewEnabled>1</NewEnabled>\
             <NewPortMappingDescription>cairn</NewPortMappingDescription>\
             <NewLeaseDuration>{}</NewLeaseDuration>",
            self.own_ip,
            lease.as_secs(),
        );
        self.call("AddPortMapping", &arguments).await.map(drop)
    }

    /// Lets it in no longer.
    pub(super) async fn close(&self, protocol: &str, port: u16) -> io::Result<()> {
        let arguments = format!(
            "<NewRemoteHost></NewRemoteHost><NewExternalPort>{port}</NewExternalPort>\
             <NewProtocol>{protocol}</NewProtocol>"
        );
        self.call("DeletePortMapping", &arguments).await.map(drop)
    }

    async fn call(&self, action: &str, arguments: &str) -> io::Result<String> {
        let service = self.service;
        let body = format!(
            "<?xml version=\"1.0\"?><s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\" \
             s:encodingStyle=\"http://schemas.xmlsoap.org/soap/encoding/\"><s:Body>\
             <u:{action} xmlns:u=\"{service}\">{arguments}</u:{action}></s:Body></s:Envelope>"
        );
        let request = format!(
            "POST {} HTTP/1.0\r\nHost: {}\r\nContent-Type: text/xml; charset=\"utf-8\"\r\n\
             SOAPAction: \"{service}#{action}\"\r\nContent-Length: {}\r\n\r\n{body}",
            self.control.path,
            self.control.host,
            body.len(),
        );
        Ok(exchange(&self.control, &request).await?.0)
    }
}

/// Sends a request; returns the body of its answer and our own address.
async fn exchange(to: &Location, request: &str) -> io::Result<(String, IpAddr)> {
    let exchanged = async {
        let mut stream = TcpStream::connect(to.host).await?;
        let own_ip = stream.local_addr()?.ip();
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.take(MAX_ANSWER_BYTES).read_to_end(&mut answer).await?;
        Ok((String::from_utf8_lossy(&answer).into_owned(), own_ip))
    };
    let late = || io::Error::new(io::ErrorKind::TimedOut, "the router does not answer");
    let (answer, own_ip) = timeout(TIMEOUT, exchanged).await.unwrap_or_else(|_| Err(late()))?;
    let (head, body) =
        answer.split_once("\r\n\r\n").ok_or_else(|| invalid("the router's answer has no body"))?;
    let status = head.split_whitespace().nth(1).unwrap_or_default();
    if status != "200" {
        let reason = element(body, "errorDescription").unwrap_or_default();
        return Err(io::Error::other(format!("the router refuses, status={status} reason={reason:?}")));
    }
    Ok((body.to_owned(), own_ip))
}

/// Service that opens ports, and where it takes requests.
fn control(description: &str) -> Option<(&'static str, &str)> {
    description.split("<service>").skip(1).find_map(|service| {
        let kind = element(service, "serviceType")?.trim();
        let known = SERVICES.iter().find(|known| **known == kind)?;
        Some((*known, element(service, "controlURL")?.trim()))
    })
}

/// Text of the first such element.
fn element<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    let rest = xml.split_once(&format!("<{name}>"))?.1;
    Some(rest.split_once(&format!("</{name}>"))?.0)
}

fn invalid(message: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}
