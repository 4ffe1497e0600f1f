//! A script that runs in the server: in one round trip, and as a whole or not at all.

use redis::{
    Cmd, ErrorKind, FromRedisValue, RedisResult, ServerErrorKind, ToRedisArgs, aio::ConnectionLike,
};

/// A script, known to servers by its hash.
#[derive(Debug)]
pub(super) struct Script {
    code: &'static str,
    hash: String,
}

impl Script {
    pub(super) fn new(code: &'static str) -> Self {
        let hash = redis::Script::new(code).get_hash().to_owned();
        Self { code, hash }
    }

    /// Runs it. A server that does not know it by its hash, because it was started anew, is sent its text.
    ///
    /// All `keys` have to be of one slot.
    pub(super) async fn run<T, K, A>(
        &self,
        connection: &mut impl ConnectionLike,
        keys: &[K],
        arguments: &[A],
    ) -> RedisResult<T>
    where
        T: FromRedisValue,
        K: ToRedisArgs,
        A: ToRedisArgs,
    {
        let by_hash = command("EVALSHA", &self.hash, keys, arguments);
        match by_hash.query_async(connection).await {
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                let by_text = command("EVAL", self.code, keys, arguments);
                by_text.query_async(connection).await
            }
            ran => ran,
        }
    }
}

fn command(
    name: &str,
    script: &str,
    keys: &[impl ToRedisArgs],
    arguments: &[impl ToRedisArgs],
) -> Cmd {
    let mut command = redis::cmd(name);
    command.arg(script).arg(keys.len());
    for key in keys {
        command.arg(key);
    }
    for argument in arguments {
        command.arg(argument);
    }
    command
}
