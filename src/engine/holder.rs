//! Who holds a lease, told so that other processes can see whether the holder still lives.
//!
//! A holder is `host:pid:number`, which people read, and behind an `@` what makes the process the only one of its kind: the boot
//! of its machine, its namespace of process numbers, and when it started. A host's name proves nothing: machines made from one
//! image share it, and so do containers.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

const PROC: &str = "/proc";

/// A new holder in this process.
pub(super) fn holder() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let host = std::fs::read_to_string("/etc/hostname").unwrap_or_default();
    let pid = std::process::id();
    let name = format!("{}:{pid}:{}", host.trim(), COUNT.fetch_add(1, Ordering::Relaxed));
    let proc = Path::new(PROC);
    match (scope(proc), started(proc, pid)) {
        (Some(scope), Some(started)) => format!("{name}@{scope}@{started}"),
        // Nobody can tell from afar whether it lives; the end of the lease decides.
        _ => name,
    }
}

/// What people are told of a holder.
pub(super) fn readable(holder: &str) -> String {
    holder.split('@').next().unwrap_or_default().to_owned()
}

/// Whether a holder is a process that no longer exists. One of which that cannot be told from here counts as alive until its
/// lease runs out.
pub(super) fn surely_dead(holder: &str) -> bool {
    is_dead(holder, Path::new(PROC)).unwrap_or(false)
}

fn is_dead(holder: &str, proc: &Path) -> Option<bool> {
    let mut parts = holder.split('@');
    let (name, scope_then, started_then) = (parts.next()?, parts.next()?, parts.next()?);
    let pid: u32 = name.split(':').nth(1)?.parse().ok()?;
    if scope(proc)? != scope_then {
        return None;
    }
    match started(proc, pid) {
        Some(started) => Some(started != started_then),
        None => Some(!proc.join(pid.to_string()).exists() && shows_everybody(proc)?),
    }
}

/// Within what a process number means one process: the boot of a machine, and a namespace there.
fn scope(proc: &Path) -> Option<String> {
    let boot = std::fs::read_to_string(proc.join("sys/kernel/random/boot_id")).ok()?;
    let namespace = std::fs::read_link(proc.join("self/ns/pid")).ok()?;
    Some(format!("{}/{}", boot.trim(), namespace.to_str()?))
}

/// When a process started, in the machine's ticks: numbers are used again.
fn started(proc: &Path, pid: u32) -> Option<String> {
    // Field 22. The second one is the program's name in brackets, which may hold anything.
    const BEHIND_THE_NAME: usize = 22 - 3;
    let stat = std::fs::read_to_string(proc.join(pid.to_string()).join("stat")).ok()?;
    let (_, behind) = stat.rsplit_once(')')?;
    behind.split_whitespace().nth(BEHIND_THE_NAME).map(str::to_owned)
}

/// Whether a process that is not shown is not there: with `hidepid` (`ProtectProc=` of systemd) those of others are hidden.
fn shows_everybody(proc: &Path) -> Option<bool> {
    let mounts = std::fs::read_to_string(proc.join("self/mountinfo")).ok()?;
    // What was mounted last lies on top.
    let options = mounts.lines().rev().find_map(|line| {
        let (place, what) = line.split_once(" - ")?;
        let options = what.strip_prefix("proc ")?;
        (place.split(' ').nth(4)? == PROC).then_some(options)
    })?;
    Some(!options.contains("hidepid="))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPEN: &str = "22 27 0:21 / /proc rw,relatime - proc proc rw";

    /// A `/proc` in which process 7 is shown to have started at tick 500.
    fn machine(boot: &str, namespace: &str, mounts: &str) -> tempfile::TempDir {
        let proc = tempfile::tempdir().expect("the temporary folder is writable");
        let put = |path: &str, text: &str| {
            let path = proc.path().join(path);
            std::fs::create_dir_all(path.parent().expect("it has one")).expect("writable");
            std::fs::write(path, text).expect("writable");
        };
        put("sys/kernel/random/boot_id", &format!("{boot}\n"));
        put("self/mountinfo", mounts);
        put("7/stat", "7 (a ) b) S 1 7 7 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 500 0 0\n");
        std::fs::create_dir_all(proc.path().join("self/ns")).expect("writable");
        std::os::unix::fs::symlink(namespace, proc.path().join("self/ns/pid")).expect("writable");
        proc
    }

    fn told(holder: &str, boot: &str, namespace: &str, mounts: &str) -> bool {
        is_dead(holder, machine(boot, namespace, mounts).path()).unwrap_or(false)
    }

    #[test]
    fn a_process_is_dead_only_where_its_number_means_it() {
        let here = |holder: &str| told(holder, "b1", "pid:[1]", OPEN);
        assert!(!here("vm:7:0@b1/pid:[1]@500"), "it is there");
        assert!(here("vm:7:0@b1/pid:[1]@499"), "its number is another's now");
        assert!(here("vm:8:0@b1/pid:[1]@500"), "nobody has its number");
        assert!(!told("vm:8:0@b1/pid:[1]@500", "b2", "pid:[1]", OPEN), "a machine of the same name");
        assert!(!told("vm:8:0@b1/pid:[1]@500", "b1", "pid:[2]", OPEN), "another container");
        for unclear in ["", "vm:8:0", "vm:8:0@b1/pid:[1]", "vm:x:0@b1/pid:[1]@500"] {
            assert!(!here(unclear), "{unclear}");
        }
    }

    #[test]
    fn nobody_is_dead_because_they_are_hidden() {
        for hidden in ["hidepid=invisible", "hidepid=2", "gid=4,hidepid=ptraceable"] {
            let mounts =
                format!("{OPEN}\n30 22 0:50 / /proc rw,nosuid - proc proc rw,{hidden}\n31 27 0:9 / / rw - ext4 a rw");
            assert!(!told("vm:8:0@b1/pid:[1]@500", "b1", "pid:[1]", &mounts), "{hidden}");
            assert!(told("vm:7:0@b1/pid:[1]@499", "b1", "pid:[1]", &mounts), "{hidden}: it is shown, and another");
        }
        assert!(!told("vm:8:0@b1/pid:[1]@500", "b1", "pid:[1]", "31 27 0:9 / / rw - ext4 a rw"), "no word of it");
    }

    #[test]
    fn a_holder_knows_itself_and_reads_well() {
        let ours = holder();
        assert!(!surely_dead(&ours));
        assert!(readable(&ours).split(':').nth(1).is_some_and(|pid| pid == std::process::id().to_string()), "{ours}");
        assert!(!readable(&ours).contains('@'));
    }
}
