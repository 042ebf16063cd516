//! A line to a server that can be cut: after so many messages from the client, with the message that
//! was one too many, or with the answer to it.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;

/// Where a line leads.
#[derive(Clone)]
pub enum End {
    /// An address, as `127.0.0.1:80`.
    Tcp(String),
    /// A socket.
    Unix(PathBuf),
}

/// What is lost when a line is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    /// The message: the server never sees it.
    Message,
    /// Its answer: the server did what it was asked for.
    Answer,
}

#[derive(Default)]
struct State {
    /// How many messages came through since it was mended.
    passed: u64,
    /// After how many it is cut, and what is lost.
    cut: Option<(u64, Lost)>,
    dead: bool,
    open: Vec<Wire>,
}

impl State {
    fn die(&mut self) {
        self.dead = true;
        for wire in self.open.drain(..) {
            wire.close();
        }
    }
}

/// A port of this machine that leads to a server, as long as it is not cut.
pub struct Line {
    pub port: u16,
    state: Arc<Mutex<State>>,
}

impl Line {
    pub fn to(end: End) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        // It ends with the test's process.
        thread::spawn(move || {
            for client in listener.incoming() {
                connect(Wire::Tcp(client.unwrap()), &end, &shared);
            }
        });
        Self { port, state }
    }

    /// Cuts it after so many messages.
    pub fn cut_after(&self, messages: u64, lost: Lost) {
        let mut state = lock(&self.state);
        *state = State {
            cut: Some((messages, lost)),
            open: std::mem::take(&mut state.open),
            ..State::default()
        };
    }

    /// Mends it, for good.
    pub fn mend(&self) {
        let mut state = lock(&self.state);
        state.cut = None;
        state.dead = false;
    }

    /// Whether it was cut.
    pub fn is_cut(&self) -> bool {
        lock(&self.state).dead
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap()
}

enum Wire {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Wire {
    fn again(&self) -> Self {
        match self {
            Self::Tcp(wire) => Self::Tcp(wire.try_clone().unwrap()),
            Self::Unix(wire) => Self::Unix(wire.try_clone().unwrap()),
        }
    }

    fn close(&self) {
        // It may be closed already.
        let _ = match self {
            Self::Tcp(wire) => wire.shutdown(Shutdown::Both),
            Self::Unix(wire) => wire.shutdown(Shutdown::Both),
        };
    }

    fn read(&mut self, into: &mut [u8]) -> usize {
        let read = match self {
            Self::Tcp(wire) => wire.read(into),
            Self::Unix(wire) => wire.read(into),
        };
        read.unwrap_or(0)
    }

    fn write(&mut self, bytes: &[u8]) -> bool {
        let written = match self {
            Self::Tcp(wire) => wire.write_all(bytes),
            Self::Unix(wire) => wire.write_all(bytes),
        };
        written.is_ok()
    }
}

fn connect(client: Wire, end: &End, state: &Arc<Mutex<State>>) {
    if lock(state).dead {
        return client.close();
    }
    let server = match end {
        End::Tcp(address) => Wire::Tcp(TcpStream::connect(address).unwrap()),
        End::Unix(path) => Wire::Unix(UnixStream::connect(path).unwrap()),
    };
    lock(state).open.extend([client.again(), server.again()]);
    let (mut asks, mut hears) = (client.again(), server.again());
    let shared = Arc::clone(state);
    thread::spawn(move || {
        let mut buffer = vec![0; 1 << 16];
        loop {
            let n = asks.read(&mut buffer);
            let mut state = lock(&shared);
            state.passed += 1;
            let over = state.cut.filter(|(after, _)| state.passed > *after);
            if n == 0 || over.is_some_and(|(_, lost)| lost == Lost::Message) {
                if over.is_some() {
                    state.die();
                }
                break;
            }
            if over.is_some() {
                // From now on nothing comes back, and then nothing is left.
                state.dead = true;
            }
            drop(state);
            if !hears.write(&buffer[..n]) {
                break;
            }
        }
        asks.close();
        hears.close();
    });
    let (mut tells, mut answers) = (client, server);
    let shared = Arc::clone(state);
    thread::spawn(move || {
        let mut buffer = vec![0; 1 << 16];
        loop {
            let n = answers.read(&mut buffer);
            if lock(&shared).dead {
                // The server has done what it was asked for.
                lock(&shared).die();
                break;
            }
            if n == 0 || !tells.write(&buffer[..n]) {
                break;
            }
        }
        tells.close();
        answers.close();
    });
}
