//! The way in: the accept loop, which survives every error, and the porch, where newcomers stand
//! while more are coming.
//!
//! A thread for a connection, and its end, cost ten times what accepting it does. A crowd that only
//! connects would take so long to let in that an honest client behind it notices. So nobody is let
//! in before nobody else is waiting outside. If the place on the porch is needed meanwhile, the
//! first who came has to leave it: into the house if a request has arrived, else for good. The porch
//! takes only places that are free in the house, so both together stay within the limit; how long
//! somebody stands on it counts for no deadline, because it ends with the crowd.

use std::collections::VecDeque;
use std::io;
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

use super::head;
use super::house::House;

/// The accept loop's own state.
pub(super) struct Entrance {
    house: Arc<House>,
    listener: TcpListener,
    /// Who was accepted and not let in yet; the last one came last.
    porch: VecDeque<TcpStream>,
    /// Does an accept wait for somebody to come?
    waits: bool,
    /// For a look at what has arrived.
    glance: Box<[u8]>,
}

impl Entrance {
    pub(super) fn new(house: Arc<House>, listener: TcpListener) -> Entrance {
        let glance = vec![0; house.limits.head_bytes].into_boxed_slice();
        Entrance { house, listener, porch: VecDeque::new(), waits: true, glance }
    }

    /// The accept loop. Its only way out is the stop.
    pub(super) fn accept_until_stopped(mut self) {
        loop {
            let accepted = self.accept();
            if self.house.is_stopping() {
                break;
            }
            match accepted {
                Ok(stream) => self.receive(stream),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    // Nobody else: there is time. The last who came is the likeliest to be heard
                    // of soon.
                    if let Some(newest) = self.porch.pop_back() {
                        self.house.let_in(newest, false);
                    }
                }
                Err(error) => self.survive(&error),
            }
        }
        self.house.accepting_ended();
    }

    /// The next newcomer. While somebody stands on the porch there may be none.
    fn accept(&mut self) -> io::Result<TcpStream> {
        let waits = self.porch.is_empty();
        if waits != self.waits {
            self.listener.set_nonblocking(!waits)?;
            self.waits = waits;
        }
        self.listener.accept().map(|(stream, _)| stream)
    }

    fn receive(&mut self, newcomer: TcpStream) {
        while self.house.is_full(self.porch.len()) {
            if self.may_porch_grow() && self.house.make_room(self.porch.len()) {
                break;
            }
            match self.porch.pop_front() {
                Some(oldest) => self.decide(oldest),
                None => return self.house.refused("full"),
            }
        }
        self.porch.push_back(newcomer);
    }

    /// Up to half of all places may be the porch's, at the expense of those who keep us waiting in
    /// the house: on a very small porch nobody stands until a first word can arrive.
    fn may_porch_grow(&self) -> bool {
        self.porch.len() < self.house.inhabitants()
    }

    /// Into the house, or out.
    fn decide(&mut self, stream: TcpStream) {
        match self.has_asked(&stream) {
            true => self.house.let_in(stream, true),
            false => self.house.refused("made-room"),
        }
    }

    /// Has a whole head arrived?
    fn has_asked(&mut self, stream: &TcpStream) -> bool {
        let arrived = stream.set_nonblocking(true).and_then(|()| stream.peek(&mut self.glance));
        let head = &self.glance[..arrived.unwrap_or(0)];
        matches!(head::end_of_head(head, &mut 0), Ok(Some(_)))
            && stream.set_nonblocking(false).is_ok()
    }

    /// After an accept that failed: a client that left before it was let in is nothing; a shortage
    /// is answered by making room.
    fn survive(&mut self, error: &io::Error) {
        let passing = [
            io::ErrorKind::ConnectionAborted,
            io::ErrorKind::ConnectionReset,
            io::ErrorKind::Interrupted,
        ];
        if passing.contains(&error.kind()) {
            return;
        }
        log::debug!("{}: accept: {error}", self.house.name);
        self.house.refused("accept-failed");
        // With nobody on the porch this waits at least, so that a lasting shortage costs nothing.
        let in_house = self.porch.is_empty() || self.may_porch_grow();
        if in_house && self.house.make_room_in_shortage() {
            return;
        }
        if let Some(oldest) = self.porch.pop_front() {
            self.decide(oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Body, Limits, Request, Response};
    use super::{Entrance, House};
    use crate::clock::Clock;
    use std::io::{ErrorKind, Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};
    use std::sync::mpsc::{self, Sender};
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";

    /// An entrance whose accept loop doesn't run, to a house that answers when it is told.
    fn entrance(connections: usize) -> (Entrance, Sender<()>) {
        let limits = Limits { connections, ..Limits::default() };
        let (go_on, told) = mpsc::channel();
        let told = Mutex::new(told);
        let handler = Arc::new(move |_: &Request| {
            told.lock().unwrap().recv().unwrap();
            Response::new(200, Body::Static(b"good"))
        });
        let house = House::new("entrance", limits, handler, Clock::system(), Arc::default());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        (Entrance::new(Arc::new(house), listener), go_on)
    }

    /// A client that has sent this, and the server's end of its connection.
    fn newcomer(entrance: &Entrance, words: &[u8]) -> (TcpStream, TcpStream) {
        let mut client = TcpStream::connect(entrance.listener.local_addr().unwrap()).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let (stream, _) = entrance.listener.accept().unwrap();
        client.write_all(words).unwrap();
        if !words.is_empty() {
            stream.peek(&mut [0]).unwrap();
        }
        (client, stream)
    }

    /// What a client hears until its connection ends.
    fn hears(client: &mut TcpStream) -> String {
        let mut text = String::new();
        // Whose words nobody has read is ended by a reset.
        let ended = client.read_to_string(&mut text).map_err(|error| error.kind());
        assert!(matches!(ended, Ok(_) | Err(ErrorKind::ConnectionReset)), "{ended:?}");
        text
    }

    #[test]
    fn whoever_has_to_leave_the_porch_goes_in_with_a_request_and_away_without() {
        let (mut entrance, go_on) = entrance(3);
        let words: [&[u8]; 5] = [REQUEST, b"", &REQUEST[..20], b"", REQUEST];
        let mut clients = words.map(|words| {
            let (client, stream) = newcomer(&entrance, words);
            entrance.receive(stream);
            client
        });
        assert_eq!((entrance.house.inhabitants(), entrance.porch.len()), (1, 2));
        assert_eq!(hears(&mut clients[1]), "", "it has said nothing");
        assert_eq!(hears(&mut clients[2]), "", "it has not said all");
        // Nobody else comes.
        while let Some(newest) = entrance.porch.pop_back() {
            entrance.house.let_in(newest, false);
        }
        clients[3].write_all(REQUEST).unwrap();
        (0..3).for_each(|_| go_on.send(()).unwrap());
        for asking in [0, 3, 4] {
            assert!(hears(&mut clients[asking]).ends_with("good"), "client {asking}");
        }
    }
}
