//! A network between here and a server: it counts requests, and takes its time with each.

use crate::measure::Outcome;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

/// A proxy that listens until the benchmark ends.
pub struct Proxy {
    /// Where it listens.
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    to: SocketAddr,
    /// What a request waits, in microseconds.
    wait: AtomicU64,
    requests: AtomicU64,
}

impl Proxy {
    /// Before a server.
    pub fn start(to: SocketAddr) -> Outcome<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            to,
            wait: AtomicU64::new(0),
            requests: AtomicU64::new(0),
        });
        let own = Arc::clone(&shared);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let shared = Arc::clone(&own);
                // Whoever hangs up is done.
                thread::spawn(move || drop(connect(client, &shared)));
            }
        });
        Ok(Self { address, shared })
    }

    /// How long each request waits from now on, in milliseconds.
    pub fn wait(&self, milliseconds: u64) {
        self.shared
            .wait
            .store(milliseconds * 1000, Ordering::Relaxed);
    }

    /// How many requests came since this was asked last.
    pub fn requests(&self) -> u64 {
        self.shared.requests.swap(0, Ordering::Relaxed)
    }
}

fn connect(client: TcpStream, shared: &Shared) -> std::io::Result<()> {
    let server = TcpStream::connect(shared.to)?;
    for stream in [&client, &server] {
        stream.set_nodelay(true)?;
    }
    // What a client says after an answer is another request.
    let answered = AtomicBool::new(true);
    thread::scope(|threads| {
        threads.spawn(|| {
            drop(carry(&server, &client, || {
                answered.store(true, Ordering::Relaxed)
            }));
        });
        carry(&client, &server, || {
            if answered.swap(false, Ordering::Relaxed) {
                shared.requests.fetch_add(1, Ordering::Relaxed);
                let wait = shared.wait.load(Ordering::Relaxed);
                thread::sleep(Duration::from_micros(wait));
            }
        })
    })
}

fn carry(mut from: &TcpStream, mut to: &TcpStream, on: impl Fn()) -> std::io::Result<()> {
    let mut buffer = vec![0; 1 << 16];
    loop {
        let read = match from.read(&mut buffer) {
            Ok(0) | Err(_) => break,
            Ok(read) => read,
        };
        on();
        to.write_all(buffer.get(..read).unwrap_or_default())?;
    }
    to.shutdown(Shutdown::Write)
}
