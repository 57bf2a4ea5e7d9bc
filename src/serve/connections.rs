//! Connections: taken up, and ended in time.

use super::body::Body;
use super::client::Client;
use super::timed::Timed;
use crate::error::{Error, Kind, Result};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use std::convert::Infallible;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, watch};

/// Connections at once; others wait to be taken up.
const MOST_CONNECTIONS: usize = 512;
/// How long a client may take to say what it wants, also after an answer.
const HEADER_TIME: Duration = Duration::from_secs(30);
/// How long a client may take to read anything of what is written to it.
const WRITE_TIME: Duration = Duration::from_secs(60);

/// How connections are ended.
#[derive(Debug, Clone, Copy)]
pub struct Manner {
    /// Whether a client that has said all may listen still. Without it nobody works on for one that has closed its end.
    pub half_close: bool,
    /// How long answers that have begun are waited for when the server ends.
    pub grace: Duration,
}

/// Speaks HTTP until it is to end. A request knows its client.
///
/// # Errors
/// When the system gives no means to.
pub fn speak<A>(
    listener: TcpListener,
    manner: Manner,
    stopping: watch::Receiver<bool>,
    answer: impl Fn(Request<Incoming>) -> A + Clone + Send + 'static,
) -> Result<()>
where
    A: Future<Output = Response<Body>> + Send + 'static,
{
    let failed = |e: std::io::Error| Error::new(Kind::Run, format!("HTTP cannot be spoken: {e}")).caused_by(e);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let spoken = runtime.block_on(accept(listener, manner, stopping, answer)).map_err(failed);
    runtime.shutdown_background(); // what is being done for nobody
    spoken
}

async fn accept<A>(
    listener: TcpListener,
    manner: Manner,
    mut stopping: watch::Receiver<bool>,
    answer: impl Fn(Request<Incoming>) -> A + Clone + Send + 'static,
) -> std::io::Result<()>
where
    A: Future<Output = Response<Body>> + Send + 'static,
{
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let graceful = GracefulShutdown::new();
    let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEADER_TIME).half_close(manner.half_close);
    loop {
        let accepted = async {
            let place = places.clone().acquire_owned().await;
            (listener.accept().await, place)
        };
        let (accepted, place) = tokio::select! {
            accepted = accepted => accepted,
            _ = stopping.wait_for(|stop| *stop) => break,
        };
        let Ok((stream, _)) = accepted else {
            // Too many files are open, or the client has gone: others may do better.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let _ = stream.set_nodelay(true);
        let (answer, client) = (answer.clone(), Client::new(stream));
        let known = client.clone();
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(known.clone());
            let answered = answer(request);
            async move { Ok::<_, Infallible>(answered.await) }
        });
        let connection = graceful.watch(http.serve_connection(TokioIo::new(Timed::new(client, WRITE_TIME)), service));
        tokio::spawn(async move {
            // A connection that breaks is its client's affair.
            let _ = connection.await;
            drop(place);
        });
    }
    drop(listener);
    let _ = tokio::time::timeout(manner.grace, graceful.shutdown()).await;
    Ok(())
}
