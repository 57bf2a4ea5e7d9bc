//! What the page asks the model that is talked to: handed on, and what comes back handed back piece by piece.

use super::talk::Reached;
use crate::serve::{Body, Events, Refusal};
use hyper::body::Bytes;
use hyper::{Response, StatusCode};
use std::io::ErrorKind;
use std::task::{Context, Poll};
use tokio::net::TcpStream;
use tokio::sync::mpsc::{Receiver, Sender, channel};

/// The head of an answer is smaller.
const MOST_HEAD: usize = 64 << 10;
/// Pieces that wait for a browser that reads slowly.
const PIECES: usize = 64;

/// Pieces as they come.
struct Pieces(Receiver<Bytes>);

impl Events for Pieces {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        self.0.poll_recv(context)
    }
}

/// Asks for an answer to a conversation. A browser that goes away ends it, and frees its place.
///
/// # Errors
/// The refusal.
pub async fn chat(to: &Reached, body: &[u8]) -> Result<Response<Body>, Refusal> {
    let away = |e: std::io::Error| Refusal::new(StatusCode::BAD_GATEWAY, format!("the model does not answer: {e}"));
    let stream = TcpStream::connect(&to.address).await.map_err(away)?;
    // Of HTTP/1.0, so that the answer is its bytes until its end.
    let head = format!(
        "POST /v1/chat/completions HTTP/1.0\r\nHost: {}\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n",
        to.address,
        to.key,
        body.len()
    );
    write(&stream, head.as_bytes()).await.map_err(away)?;
    write(&stream, body).await.map_err(away)?;
    let mut come = Vec::new();
    let end = loop {
        match find(&come) {
            Some(end) => break end,
            None if come.len() > MOST_HEAD => return Err(away(ErrorKind::InvalidData.into())),
            None => {}
        }
        if !read(&stream, &mut come).await.map_err(away)? {
            return Err(away(ErrorKind::UnexpectedEof.into()));
        }
    };
    let rest = come.split_off(end);
    let status = std::str::from_utf8(&come).ok().and_then(|head| head.split(' ').nth(1)?.parse::<u16>().ok());
    let status = status.and_then(|status| StatusCode::from_u16(status).ok()).unwrap_or(StatusCode::BAD_GATEWAY);
    let is_stream = come.to_ascii_lowercase().windows(17).any(|part| part == b"text/event-stream");
    if status == StatusCode::OK && is_stream {
        let (sender, receiver) = channel(PIECES);
        tokio::spawn(hand_on(stream, rest, sender));
        return Ok(Body::events(Pieces(receiver)));
    }
    let mut whole = rest;
    while whole.len() < MOST_HEAD << 10 && read(&stream, &mut whole).await.map_err(away)? {}
    Ok(Body::text(status, "application/json", String::from_utf8_lossy(&whole).into_owned()))
}

/// Hands on what comes until it ends or nobody reads it.
async fn hand_on(stream: TcpStream, first: Vec<u8>, sender: Sender<Bytes>) {
    let mut piece = first;
    loop {
        if !piece.is_empty() && sender.send(std::mem::take(&mut piece).into()).await.is_err() {
            return;
        }
        let more = tokio::select! {
            more = read(&stream, &mut piece) => more,
            () = sender.closed() => return,
        };
        if !more.unwrap_or(false) {
            return;
        }
    }
}

/// Where the body begins.
fn find(come: &[u8]) -> Option<usize> {
    come.windows(4).position(|part| part == b"\r\n\r\n").map(|at| at + 4)
}

/// Reads what has come; whether there was anything before the end.
async fn read(stream: &TcpStream, into: &mut Vec<u8>) -> std::io::Result<bool> {
    let mut buffer = [0; 16 << 10];
    loop {
        stream.readable().await?;
        match stream.try_read(&mut buffer) {
            Ok(count) => {
                into.extend_from_slice(&buffer[..count]);
                return Ok(count > 0);
            }
            Err(e) if e.kind() == ErrorKind::WouldBlock => {}
            Err(e) => return Err(e),
        }
    }
}

async fn write(stream: &TcpStream, mut bytes: &[u8]) -> std::io::Result<()> {
    while !bytes.is_empty() {
        stream.writable().await?;
        match stream.try_write(bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(count) => bytes = &bytes[count..],
            Err(e) if e.kind() == ErrorKind::WouldBlock => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}
