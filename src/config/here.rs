//! What a configuration needs of the place where it is used.
//!
//! Reading a configuration asks for none of this: it may be checked where its secrets are not, and what the
//! command line says instead may make it right.

use super::auth::read_tokens;
use super::credential::CredentialError;
use super::problem::Collector;
use super::{Config, Environment, Place, Problems};

impl Config {
    /// Tells every secret that cannot be had, and listeners that stand open.
    pub fn check_here(&self, env: Environment<'_>) -> Result<(), Problems> {
        let mut problems = Collector::new(&self.source);
        self.credentials(env, &mut problems);
        self.tokens(env, &mut problems);
        self.doors(&mut problems);
        problems.finish().map(|_| ())
    }

    fn place(&self, key: &str) -> Option<Place> {
        self.places.get(key).copied()
    }

    fn credentials(&self, env: Environment<'_>, problems: &mut Collector) {
        for upstream in &self.upstreams {
            let Some(credential) = &upstream.credential else {
                continue;
            };
            let Err(error) = credential.resolve(env) else {
                continue;
            };
            let name = &upstream.name;
            let place = self.place(&format!("upstreams.{name}.credential"));
            let way_out = match error {
                CredentialError::Unset(_) => {
                    "; set it, or take `credential` out so that callers send their own"
                }
                _ => "",
            };
            let message = format!("the credential of `{name}` cannot be had: {error}{way_out}");
            problems.error(place, message);
        }
    }

    fn tokens(&self, env: Environment<'_>, problems: &mut Collector) {
        let of_callers = self.auth.iter().flat_map(|auth| &auth.tokens);
        let of_callers = of_callers.map(|source| ("auth.tokens", source));
        let of_operators = self
            .admin_token
            .iter()
            .map(|source| ("admin_token", source));
        for (key, source) in of_callers.chain(of_operators) {
            if let Err(error) = read_tokens(source, env) {
                problems.error(self.place(key), format!("`{key}` cannot be had: {error}"));
            }
        }
    }

    /// Whoever reaches a listener beyond this machine spends the keys that surgetank and its callers hold.
    fn doors(&self, problems: &mut Collector) {
        if self.auth.is_some() || self.listen_without_auth {
            return;
        }
        for listen in self.listen.iter().filter(|listen| !listen.is_local()) {
            let message = format!(
                "`{listen}` can be reached from other machines, and nobody is asked who they are: set `auth`, or listen on 127.0.0.1, or say `listen_without_auth: true` (SURGETANK_LISTEN_WITHOUT_AUTH=true) if a network policy or a proxy keeps strangers out"
            );
            problems.error(self.place("listen"), message);
        }
    }
}
