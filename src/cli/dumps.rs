//! The memory of the process holds keys and prompts, and is kept out of files and from other processes.

use std::io;

use rustix::process::{Resource, Rlimit, setrlimit};

/// Forbids core dumps for the rest of this process's life. On Linux that also keeps other processes of the same user
/// from reading its memory, its environment and the files that it has open (`PR_SET_DUMPABLE`); root still can.
///
/// # Errors
/// When the system refuses.
pub(super) fn forbid() -> io::Result<()> {
    // Also the bound up to which the first could be raised again.
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    setrlimit(Resource::Core, none)?;
    #[cfg(target_os = "linux")]
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    #[cfg(target_os = "linux")]
    fn no_dump_is_written_and_nobody_looks_in() {
        use rustix::process::{DumpableBehavior, Resource, dumpable_behavior, getrlimit};

        super::forbid().unwrap();
        let limit = getrlimit(Resource::Core);
        assert_eq!((limit.current, limit.maximum), (Some(0), Some(0)));
        assert_eq!(dumpable_behavior().unwrap(), DumpableBehavior::NotDumpable);
    }
}
