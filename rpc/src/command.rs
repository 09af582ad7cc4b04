//! What a command is: its arguments, its events, and how it runs.

pub mod query;

use std::future::Future;
use std::pin::Pin;
use std::task::{Context as Waker, Poll};

use bytes::{Bytes, BytesMut};
use futures::stream::BoxStream;
use futures::{Stream, StreamExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;

use crate::context::Context;
use crate::error::{Error, Result};
use crate::files::Files;

pub use query::{Binder, Param, Query};

/// Events that wait for their reader before the command pauses.
const EVENT_QUEUE: usize = 64;

/// Longest JSON event that a client accepts, in bytes; a listing of a huge directory comes as one.
const MAX_EVENT_BYTES: usize = 256 * 1024 * 1024;

/// The events of one command. It ends after the first error; dropping it cancels the command.
pub type Events<E> = BoxStream<'static, Result<E>>;

/// One command: its arguments are the fields of the implementing type, their defaults its [`Default`].
pub trait Command: Default + Send + 'static {
    /// Path below `/api/v0/`.
    const PATH: &'static str;
    /// MIME type of the answer.
    const CONTENT_TYPE: &'static str = "application/json";
    /// Name of the file argument, for a command that takes files.
    const FILES: Option<&'static str> = None;

    /// What it yields.
    type Event: Event;

    /// Names every argument and option, in order; reads or writes them as the binder says.
    ///
    /// # Errors
    /// A missing argument or a value of the wrong form.
    fn bind(&mut self, binder: &mut Binder) -> Result<()>;

    /// Takes the files that came with a request.
    fn set_files(&mut self, _files: Files) {}

    /// Gives the files away that go with a request.
    fn take_files(&mut self) -> Option<Files> {
        None
    }

    /// MIME type of this very answer.
    fn content_type(&self) -> &'static str {
        Self::CONTENT_TYPE
    }

    /// Whether it may yield more than one event; Kubo marks such answers.
    fn is_stream(&self) -> bool {
        true
    }

    /// Does the work.
    ///
    /// # Cancellation
    /// Dropping the future stops everything that it began, but what it says was done.
    fn run(self, context: Context, output: Output<Self::Event>) -> impl Future<Output = Result<()>> + Send;
}

/// What a command yields and how that travels.
pub trait Event: Sized + Send + 'static {
    /// Header that marks a stream of such events. Source: go-ipfs-cmds `http/responseemitter.go`.
    const STREAM_HEADER: &'static str;

    /// Its bytes in the body of an answer; a length goes into a header.
    fn encode(self) -> Encoded;

    /// Reads events from the body of an answer whose header stated a length.
    fn decode(length: Option<u64>, body: BoxStream<'static, Result<Bytes>>) -> Events<Self>;
}

/// An event on its way into an answer.
#[derive(Debug)]
pub enum Encoded {
    /// Part of the body.
    Body(Bytes),
    /// Bytes to come, told before the body.
    Length(u64),
}

/// An event of a command that yields JSON.
pub trait JsonEvent: Serialize + DeserializeOwned + Send + 'static {}

impl<T: JsonEvent> Event for T {
    const STREAM_HEADER: &'static str = "x-chunked-output";

    fn encode(self) -> Encoded {
        let mut line = serde_json::to_vec(&self).expect("an event has a JSON form");
        line.push(b'\n');
        Encoded::Body(line.into())
    }

    fn decode(_length: Option<u64>, body: BoxStream<'static, Result<Bytes>>) -> Events<Self> {
        decode_lines(body)
    }
}

/// An event of a command that yields bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// How many bytes will come; told first, if at all.
    Length(u64),
    /// The next bytes.
    Bytes(Bytes),
}

impl Event for Piece {
    const STREAM_HEADER: &'static str = "x-stream-output";

    fn encode(self) -> Encoded {
        match self {
            Self::Length(length) => Encoded::Length(length),
            Self::Bytes(bytes) => Encoded::Body(bytes),
        }
    }

    fn decode(length: Option<u64>, body: BoxStream<'static, Result<Bytes>>) -> Events<Self> {
        let length = futures::stream::iter(length.map(|length| Ok(Self::Length(length))));
        length.chain(body.map(|bytes| bytes.map(Self::Bytes))).boxed()
    }
}

fn decode_lines<E: DeserializeOwned + Send + 'static>(body: BoxStream<'static, Result<Bytes>>) -> Events<E> {
    let state = (body, BytesMut::new(), 0);
    futures::stream::unfold(Some(state), |state| async move {
        let (mut body, mut buffer, mut searched) = state?;
        loop {
            if let Some(end) = memchr(&buffer[searched..]) {
                let line = buffer.split_to(searched + end + 1);
                searched = 0;
                if line.iter().all(u8::is_ascii_whitespace) {
                    continue;
                }
                return Some((parse_line(&line), Some((body, buffer, searched))));
            }
            searched = buffer.len();
            match body.next().await {
                Some(Ok(_)) if buffer.len() > MAX_EVENT_BYTES => {
                    return Some((Err(Error::new("an event of the daemon is too long")), None));
                }
                Some(Ok(bytes)) => buffer.extend_from_slice(&bytes),
                Some(Err(error)) => return Some((Err(error), None)),
                None if buffer.iter().all(u8::is_ascii_whitespace) => return None,
                None => return Some((parse_line(&buffer), None)),
            }
        }
    })
    .boxed()
}

fn memchr(bytes: &[u8]) -> Option<usize> {
    bytes.iter().position(|byte| *byte == b'\n')
}

fn parse_line<E: DeserializeOwned>(line: &[u8]) -> Result<E> {
    serde_json::from_slice(line)
        .map_err(|error| Error::new(format!("the daemon's answer cannot be read: {error}")))
}

/// Where a command puts its events.
#[derive(Debug)]
pub struct Output<E>(mpsc::Sender<E>);

impl<E> Clone for Output<E> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<E> Output<E> {
    /// Puts an event; waits while the reader is slow.
    ///
    /// # Errors
    /// When nobody reads any more; the command should end.
    pub async fn send(&self, event: E) -> Result<()> {
        self.0.send(event).await.map_err(|_| Error::new("nobody reads the answer"))
    }

    /// Puts the events of an iterator that blocks its thread.
    ///
    /// # Errors
    /// The first error of the iterator, or as [`Self::send`].
    ///
    /// # Cancellation
    /// Dropped, the iterator ends at its next event.
    pub async fn send_blocking<I>(self, open: impl FnOnce() -> I + Send + 'static) -> Result<()>
    where
        E: Send + 'static,
        I: Iterator<Item = Result<E>>,
    {
        let work = move || {
            for event in open() {
                self.0.blocking_send(event?).map_err(|_| Error::new("nobody reads the answer"))?;
            }
            Ok(())
        };
        tokio::task::spawn_blocking(work)
            .await
            .map_err(|error| Error::new(format!("a listing stopped: {error}")))?
    }

    /// Puts an event that is only for show, or drops it when the reader is slow.
    pub fn show(&self, event: E) {
        // A full queue is the reason to drop it.
        let _ = self.0.try_send(event);
    }
}

/// Runs a command on a repo of this process, within its timeout.
pub fn run<C: Command>(command: C, context: Context) -> Events<C::Event> {
    let timeout = context.options.timeout;
    let events = stream_of(|output| async move {
        let work = command.run(context, output);
        match timeout {
            None => work.await,
            Some(limit) => match tokio::time::timeout(limit, work).await {
                Ok(result) => result,
                Err(_) => Err(Error::new(format!("the command did not finish in time, timeout={limit:?}"))),
            },
        }
    });
    events.boxed()
}

/// The events of some work, which goes on while they are polled and stops when they are dropped.
pub(crate) fn stream_of<'a, E, F>(work: impl FnOnce(Output<E>) -> F) -> Running<'a, E>
where
    F: Future<Output = Result<()>> + Send + 'a,
{
    let (sender, receiver) = mpsc::channel(EVENT_QUEUE);
    Running { work: Some(Box::pin(work(Output(sender)))), receiver, failure: None }
}

/// Work and its events in one.
pub(crate) struct Running<'a, E> {
    work: Option<Pin<Box<dyn Future<Output = Result<()>> + Send + 'a>>>,
    receiver: mpsc::Receiver<E>,
    failure: Option<Error>,
}

impl<E> Stream for Running<'_, E> {
    type Item = Result<E>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Waker<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if let Some(work) = &mut this.work
            && let Poll::Ready(result) = work.as_mut().poll(cx)
        {
            // The sender goes with the work, so the queue ends once it is empty.
            this.work = None;
            this.failure = result.err();
        }
        match this.receiver.poll_recv(cx) {
            Poll::Ready(Some(event)) => Poll::Ready(Some(Ok(event))),
            Poll::Ready(None) => Poll::Ready(this.failure.take().map(Err)),
            Poll::Pending => Poll::Pending,
        }
    }
}
