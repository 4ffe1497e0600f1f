//! Closing a listener without cutting anybody off.
//!
//! The kernel completes connections before we accept them, and resets those it still holds when the
//! listener closes: their callers have connected, perhaps sent a request, and are cut. So the door is
//! shut in three steps. First the kernel is told to ignore whoever knocks from now on; a caller repeats
//! that packet a second later, finds nobody, and is refused. Then those between the packets of their
//! handshake get the time to finish it. Then everybody who made it is accepted, and the listener closes
//! with nobody behind it.

use std::{io, net, os::unix, sync::Arc, time::Duration};

use rustls::ServerConfig;
use socket2::SockRef;

use super::listener::Accepted;

/// How long a handshake that has begun may take. Far more than a round trip to a caller nearby; whoever
/// takes longer is cut, as everybody was without this.
const HANDSHAKES: Duration = Duration::from_millis(100);

/// Accepts whoever has connected, and closes. Blocks for the time of a handshake.
pub(super) fn close_tcp(
    listener: net::TcpListener,
    tls: Option<&Arc<ServerConfig>>,
) -> Vec<Accepted> {
    if ignore_newcomers(&listener).is_ok() {
        #[expect(
            clippy::disallowed_methods,
            reason = "this runs on a thread for blocking work: accepting must not depend on the runtime any more"
        )]
        std::thread::sleep(HANDSHAKES);
    }
    let accept = || {
        let (stream, peer) = listener.accept()?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Accepted::Tcp(stream, peer, tls.cloned()))
    };
    let accepted = everybody(accept);
    drop(listener);
    accepted
}

/// As [`close_tcp`]. The file is gone already, so nobody can knock.
pub(super) fn close_unix(listener: &unix::net::UnixListener) -> Vec<Accepted> {
    let accept = || {
        let (stream, _) = listener.accept()?;
        stream.set_nonblocking(true)?;
        Ok(Accepted::Unix(stream))
    };
    everybody(accept)
}

/// Bounded by the backlog: nobody is added meanwhile.
fn everybody(accept: impl Fn() -> io::Result<Accepted>) -> Vec<Accepted> {
    let mut accepted = Vec::new();
    loop {
        match accept() {
            Ok(connection) => accepted.push(connection),
            // A connection that has gone meanwhile is no reason to stop; anything else is.
            Err(error) if super::accept::is_of_one_connection(&error) => {}
            Err(_) => return accepted,
        }
    }
}

/// Lets the kernel drop every first packet of a handshake (SYN without ACK). What is connected, or has
/// had its answer, is not touched. Connections that are accepted from here on inherit the filter and
/// never see such a packet.
#[cfg(target_os = "linux")]
fn ignore_newcomers(listener: &net::TcpListener) -> io::Result<()> {
    use socket2::SockFilter;

    // Classic BPF, over the TCP header (`linux/filter.h`); the flags are its byte 13 (RFC 9293 §3.1).
    const LOAD_BYTE: u16 = 0x30;
    const AND: u16 = 0x54;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    const SYN: u32 = 0x02;
    const ACK: u32 = 0x10;
    let drop_first_packets = [
        SockFilter::new(LOAD_BYTE, 0, 0, 13),
        SockFilter::new(AND, 0, 0, SYN | ACK),
        SockFilter::new(JUMP_IF_EQUAL, 0, 1, SYN),
        SockFilter::new(RETURN, 0, 0, 0),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
    ];
    SockRef::from(listener).attach_filter(&drop_first_packets)
}

/// Elsewhere there is no such filter: who knocks in the moment of closing may be cut.
#[cfg(not(target_os = "linux"))]
fn ignore_newcomers(listener: &net::TcpListener) -> io::Result<()> {
    let _ = SockRef::from(listener);
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        net::{Ipv4Addr, TcpListener, TcpStream},
        os::unix::net::{UnixListener, UnixStream},
        sync::atomic::{AtomicBool, Ordering},
        thread,
    };

    use super::*;

    fn listening() -> (TcpListener, net::SocketAddr) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        // In a full backlog a caller believes that it has connected, and has not.
        SockRef::from(&listener).listen(4096).expect("a socket");
        listener.set_nonblocking(true).expect("a socket");
        let addr = listener.local_addr().expect("bound");
        (listener, addr)
    }

    #[test]
    fn who_has_connected_is_handed_on_and_who_has_not_is_refused() {
        let (listener, addr) = listening();
        let mut callers: Vec<_> = (0..20)
            .map(|_| TcpStream::connect(addr).expect("the kernel completes it"))
            .collect();
        for caller in &mut callers {
            caller.write_all(b"hello").expect("room");
        }
        let accepted = close_tcp(listener, None);
        assert_eq!(accepted.len(), callers.len());
        for accepted in accepted {
            let Accepted::Tcp(mut stream, _, None) = accepted else {
                panic!("TCP without TLS");
            };
            stream.set_nonblocking(false).expect("a socket");
            let mut said = [0; 5];
            stream.read_exact(&mut said).expect("it is not cut");
            stream.write_all(&said).expect("nor is the way back");
        }
        for caller in &mut callers {
            let mut heard = [0; 5];
            caller.read_exact(&mut heard).expect("an answer");
        }
        let error = TcpStream::connect(addr).expect_err("nobody listens");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }

    /// Whoever connects while the door is being shut is among the accepted: nobody falls between.
    #[test]
    #[cfg(target_os = "linux")]
    fn nobody_connects_without_being_accepted() {
        for _ in 0..5 {
            let (listener, addr) = listening();
            let closed = AtomicBool::new(false);
            let knock = || {
                let mut connected = Vec::new();
                while !closed.load(Ordering::Relaxed) {
                    match TcpStream::connect_timeout(&addr, Duration::from_millis(300)) {
                        Ok(stream) if connected.len() < 1_500 => connected.push(stream),
                        _ => thread::yield_now(),
                    }
                }
                connected
            };
            let (connected, accepted) = thread::scope(|scope| {
                let knocking = [scope.spawn(knock), scope.spawn(knock)];
                while listener.accept().is_err() {
                    thread::yield_now(); // they have begun
                }
                let accepted = 1 + close_tcp(listener, None).len();
                closed.store(true, Ordering::Relaxed);
                let connected = knocking.map(|thread| thread.join().expect("no panic").len());
                (connected.iter().sum::<usize>(), accepted)
            });
            assert_eq!(connected, accepted);
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_newcomer_gets_no_answer_and_who_is_there_stays() {
        let (listener, addr) = listening();
        let mut there = TcpStream::connect(addr).expect("the kernel completes it");
        ignore_newcomers(&listener).expect("a filter");
        let knocked = TcpStream::connect_timeout(&addr, Duration::from_millis(200));
        let error = knocked.expect_err("nobody answers");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{error}");
        let (mut stream, _) = listener.accept().expect("who was there before");
        there.write_all(b"!").expect("room");
        stream.set_nonblocking(false).expect("a socket");
        stream.read_exact(&mut [0]).expect("its packets pass");
    }

    #[test]
    fn a_unix_socket_hands_on_whoever_has_connected() {
        let folder = std::env::temp_dir().join(format!("surgetank-closing-{}", std::process::id()));
        let listener = UnixListener::bind(&folder).expect("a path of its own");
        listener.set_nonblocking(true).expect("a socket");
        let callers: Vec<_> = (0..5).map(|_| UnixStream::connect(&folder)).collect();
        std::fs::remove_file(&folder).expect("it is there");
        assert_eq!(close_unix(&listener).len(), callers.len());
    }
}
