use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper_util::rt::TokioIo;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;

#[path = "../../../../fuzz/properties/cut.rs"]
mod cut;
#[path = "../../../../fuzz/properties/chunks.rs"]
mod properties;

use properties::{End, Read};

/// Reads `coded`, which comes in pieces of `size`.
fn read(coded: &[u8], size: usize) -> Read {
    properties::read(&coded.chunks(size).collect::<Vec<_>>())
}

#[test]
fn bodies_are_read_in_whatever_pieces_they_come() {
    for (coded, data) in [
        ("0\r\n\r\n", ""),
        ("5\r\nhello\r\n0\r\n\r\n", "hello"),
        ("5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", "hello world"),
        ("A\r\n0123456789\r\n000\r\n\r\n", "0123456789"),
        (
            "a;name=value;x\r\n0123456789\r\n0;last\r\n\r\n",
            "0123456789",
        ),
        ("2 \t\r\n\r\n\r\n0 ;\r\n\r\n", "\r\n"),
        ("00000000000000000000000000000001\r\n.\r\n0\r\n\r\n", "."),
    ] {
        for size in [1, 2, 3, 5, 100] {
            let read = read(coded.as_bytes(), size);
            assert_eq!(read.end, End::Whole, "{coded:?} in pieces of {size}");
            assert_eq!(read.data, data.as_bytes(), "{coded:?}");
        }
    }
}

#[test]
fn trailers_come_with_the_end() {
    let coded = "1\r\n.\r\n0\r\nX-Sum: 1 2\r\nx-sum:3\r\nempty:\r\n\r\nHTTP/1.1";
    for size in [1, 4, 100] {
        let read = read(coded.as_bytes(), size);
        let fields = [("x-sum", "1 2"), ("x-sum", "3"), ("empty", "")];
        let fields = fields.map(|(name, value)| (name.to_owned(), value.as_bytes().to_vec()));
        assert_eq!(read.trailers, fields);
        assert_eq!(read.rest, b"HTTP/1.1", "what follows is not of this body");
    }
}

#[test]
fn what_is_not_in_the_coding_is_refused() {
    let long = format!(
        "5;{}\r\nhello\r\n0\r\n\r\n",
        "x".repeat(MOST_EXTENSIONS + 1)
    );
    let creeping = format!("1;{}\r\n.\r\n", "x".repeat(1000)).repeat(20);
    let endless = "0".repeat(MOST_LINE + 1);
    let padded = format!("{endless}\r\n\r\n");
    let trailers = format!("0\r\n{}\r\n", "a: b\r\n".repeat(MOST_TRAILERS / 6 + 1));
    let fields = format!("0\r\n{}\r\n", "a: b\r\n".repeat(MOST_FIELDS + 1));
    for coded in [
        "\n",
        "\r\n",
        " 5\r\nhello\r\n0\r\n\r\n",
        "+5\r\nhello\r\n0\r\n\r\n",
        "-5\r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "5 5\r\nhello\r\n0\r\n\r\n",
        "5\nhello\r\n0\r\n\r\n",
        "5\r\r\nhello\r\n0\r\n\r\n",
        "5;a\nb\r\nhello\r\n0\r\n\r\n",
        "5;a\rb\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhello\r\r0\r\n\r\n",
        "g\r\n",
        "10000000000000000\r\n.",
        "ffffffffffffffffff\r\n.",
        "0\r\n\n",
        "0\r\nno field\r\n\r\n",
        "0\r\n: nameless\r\n\r\n",
        "0\r\na: b\n\r\n",
        &long,
        &creeping,
        &endless,
        &padded,
        &trailers,
        &fields,
    ] {
        for size in [1, 3, usize::MAX] {
            let shown = &coded[..coded.len().min(40)];
            let end = read(coded.as_bytes(), size).end;
            assert_eq!(end, End::Broken, "{shown:?} in pieces of {size}");
        }
    }
}

#[test]
fn a_body_that_stops_is_not_whole() {
    let coded = "5;x\r\nhello\r\n0\r\na: b\r\n\r\n";
    for len in 0..coded.len() {
        let read = read(&coded.as_bytes()[..len], 1);
        assert_eq!(read.end, End::NotYet, "{len}");
    }
}

#[test]
fn data_is_given_on_without_a_copy() {
    let mut bytes = BytesMut::from("5\r\nhello\r\n");
    let place = bytes.as_ptr() as usize;
    let Ok(Some(Piece::Data(data))) = Chunks::new().next(&mut bytes) else {
        panic!("a chunk is there");
    };
    assert_eq!(data.as_ptr() as usize, place + 3);
}

/// The same as hyper's client reads it from a connection that ends after it.
async fn read_by_hyper(coded: Vec<u8>, size: usize) -> Read {
    let (ours, mut theirs) = tokio::io::duplex(coded.len().max(4096) * 2);
    let peer = async move {
        let mut asked = [0; 1024];
        let _ = theirs.read(&mut asked).await;
        let head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        let _ = theirs.write_all(head).await;
        for piece in coded.chunks(size) {
            let _ = theirs.write_all(piece).await;
            tokio::task::yield_now().await;
        }
    };
    let client = async move {
        let io = TokioIo::new(ours);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
        tokio::spawn(connection);
        let body = http_body_util::Empty::<Bytes>::new();
        let request = http::Request::get("/").header("te", "trailers").body(body);
        let mut answer = sender.send_request(request.unwrap()).await.unwrap();
        let mut read = Read::default();
        while let Some(frame) = answer.body_mut().frame().await {
            let Ok(frame) = frame else {
                read.end = End::Broken;
                return read;
            };
            match frame.into_data() {
                Ok(data) => read.data.extend_from_slice(&data),
                Err(frame) => read.trailers = properties::fields(&frame.into_trailers().unwrap()),
            }
        }
        read.end = End::Whole;
        read
    };
    tokio::join!(peer, client).1
}

/// What may stand in a body in chunks, and what may not.
fn pieces() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[a-z]{1,20}".prop_map(|data| format!("{:x}\r\n{data}\r\n", data.len())),
        1 => "[a-z]{16}".prop_map(|data| format!("10;a=\"b\"\r\n{data}\r\n")),
        1 => Just("0\r\n\r\n".to_owned()),
        1 => Just("0\r\nx-a: b\r\n\r\n".to_owned()),
        1 => "[0-9a-fA-F;: \t\r\n]{0,12}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_decoder_by_the_letter_reads_the_same(
        pieces in proptest::collection::vec(pieces(), 0..5),
        sizes in proptest::collection::vec(any::<u8>(), 0..5),
    ) {
        properties::holds(&cut::pieces(pieces.concat().as_bytes(), &sizes));
    }

    /// hyper's decoder and this one take the same bodies for whole, and read the same out of them. hyper tells what it has
    /// read before it finds a fault, so of a broken body only that is compared.
    #[test]
    fn hypers_decoder_reads_the_same(
        pieces in proptest::collection::vec(pieces(), 0..5),
        ends in any::<bool>(),
        size in 1_usize..50,
    ) {
        let mut coded = pieces.concat();
        if ends {
            coded += "0\r\n\r\n";
        }
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let theirs = runtime.block_on(read_by_hyper(coded.clone().into_bytes(), size));
        let ours = read(coded.as_bytes(), size);
        prop_assert_eq!(ours.end == End::Whole, theirs.end == End::Whole, "{:?}", coded);
        if ours.end == End::Whole {
            prop_assert_eq!(ours.data, theirs.data);
            prop_assert_eq!(ours.trailers, theirs.trailers);
        }
    }
}
