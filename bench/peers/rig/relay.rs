//! A relay that knows nothing of HTTP: what two sockets and a copy cost.

use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpStream};

pub(crate) async fn run(listen: SocketAddr, to: SocketAddr) -> anyhow::Result<()> {
    let listener = TcpListener::bind(listen).await?;
    loop {
        let (mut caller, _) = listener.accept().await?;
        tokio::spawn(async move {
            caller.set_nodelay(true)?;
            let mut upstream = TcpStream::connect(to).await?;
            upstream.set_nodelay(true)?;
            tokio::io::copy_bidirectional(&mut caller, &mut upstream).await
        });
    }
}
