//! A client's end of a connection, and whether it is still there.
//!
//! A client that says no more may still listen: it has closed its half of the connection, or it is gone. Only writing tells: where
//! nobody is, the system says so soon after.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// What may be said at any time before an answer, and means nothing.
const NOTHING: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
/// How often it is looked whether what was written found nobody.
const LOOK_TIME: Duration = Duration::from_millis(100);

/// A connection, also for whoever wants to know whether its client is there.
#[derive(Debug, Clone)]
pub struct Client(Arc<TcpStream>);

impl Client {
    /// The client of a connection.
    pub fn new(stream: TcpStream) -> Self {
        Client(Arc::new(stream))
    }

    /// Waits until the client is gone. `is_silent` says that nothing has been written of the answer, and nothing is while this is waited
    /// for: then a word without meaning is, to find out. A client that has sent something behind its request never seems gone.
    pub async fn gone(&self, is_silent: bool) {
        match self.0.peek(&mut [0]).await {
            Err(_) => return,
            Ok(0) => {}
            Ok(_) => std::future::pending().await,
        }
        if is_silent && self.0.writable().await.and_then(|()| self.0.try_write(NOTHING)).is_err() {
            return;
        }
        while matches!(self.0.take_error(), Ok(None)) {
            tokio::time::sleep(LOOK_TIME).await;
        }
    }
}

impl AsyncRead for Client {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.0.poll_read_ready(context))?;
            match self.0.try_read(into.initialize_unfilled()) {
                Ok(bytes) => {
                    into.advance(bytes);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl Client {
    fn write(
        &self,
        context: &mut Context<'_>,
        act: impl Fn(&TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.poll_write_ready(context))?;
            match act(&self.0) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => return Poll::Ready(written),
            }
        }
    }
}

impl AsyncWrite for Client {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.write(context, |stream| stream.try_write(bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.write(context, |stream| stream.try_write_vectored(bytes))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(())) // it is closed when nobody holds it any more
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::net::{Shutdown, TcpListener, TcpStream as Plain};

    #[test]
    fn who_has_said_all_is_there_until_he_is_gone() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let connect = || {
                let plain = Plain::connect(listener.local_addr().unwrap()).unwrap();
                let (server, _) = listener.accept().unwrap();
                server.set_nonblocking(true).unwrap();
                (plain, Client::new(TcpStream::from_std(server).unwrap()))
            };
            let is_gone = async |client: &Client, millis: u64| {
                tokio::time::timeout(Duration::from_millis(millis), client.gone(true)).await.is_ok()
            };
            let (mut plain, client) = connect();
            assert!(!is_gone(&client, 50).await, "it has said nothing yet");
            plain.shutdown(Shutdown::Write).unwrap();
            assert!(!is_gone(&client, 300).await, "it listens");
            let mut heard = vec![0; NOTHING.len()];
            plain.read_exact(&mut heard).unwrap();
            assert_eq!(heard, NOTHING);
            drop(plain);
            let (plain, client) = connect();
            drop(plain);
            assert!(is_gone(&client, 5_000).await);
        });
    }
}
