//! A PostgreSQL server of our own for the tests, or the one that `COUNTERPART_TEST_POSTGRES` names.

use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use sea_orm::{ConnectionTrait, Database};

/// Says which server to use instead of starting one, as a URL of a database in which others may be created.
const SERVER: &str = "COUNTERPART_TEST_POSTGRES";

/// Starts the server, says so, and stops it when the test process goes away for whatever reason: then the
/// pipe it reads from is closed.
const KEEPER: &str = r#"
"$1/initdb" --pgdata="$2" --username=counterpart --auth=trust --encoding=UTF8 --no-sync >/dev/null || exit 1
"$1/pg_ctl" --pgdata="$2" --wait --silent --log="$2/log" --options="-h 127.0.0.1 -p $3 -c unix_socket_directories='' -c fsync=off -c full_page_writes=off -c max_connections=200" start \
  || { cat "$2/log" >&2; exit 1; }
echo ready
read -r _
"$1/pg_ctl" --pgdata="$2" --silent --mode=immediate stop
rm -rf "$2"
"#;

/// A database of one test.
pub struct TestDatabase {
    pub url: String,
    _server: Option<Arc<Server>>,
}

/// A running server; it stops with the last test that uses it.
struct Server {
    keeper: Child,
    port: u16,
}

/// An empty database on a running server.
pub async fn database() -> TestDatabase {
    static DATABASES: AtomicU64 = AtomicU64::new(0);
    let (admin, server) = match std::env::var(SERVER) {
        Ok(url) => (url, None),
        Err(_) => {
            let server = shared_server();
            let port = server.port;
            let url = format!("postgres://counterpart@127.0.0.1:{port}/postgres?sslmode=disable");
            (url, Some(server))
        }
    };
    let number = DATABASES.fetch_add(1, Ordering::Relaxed);
    let name = format!("counterpart_test_{}_{number}", std::process::id());
    let connection = Database::connect(&admin).await.expect("the PostgreSQL server answers");
    connection.execute_unprepared(&format!("CREATE DATABASE {name}")).await.expect("databases can be created");
    let (base, query) = admin.split_once('?').unwrap_or((&admin, ""));
    let (base, _) = base.rsplit_once('/').expect("the URL names a database");
    TestDatabase { url: format!("{base}/{name}?{query}"), _server: server }
}

fn shared_server() -> Arc<Server> {
    static SHARED: Mutex<Weak<Server>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    shared.upgrade().unwrap_or_else(|| {
        let server = Arc::new(Server::start());
        *shared = Arc::downgrade(&server);
        server
    })
}

impl Server {
    fn start() -> Server {
        let programs = programs().unwrap_or_else(|| {
            panic!(
                "PostgreSQL is not installed, so the store cannot be tested on it. Use the test command of the \
                 README, which installs it, or set {SERVER} to the URL of a server"
            )
        });
        let port = free_port();
        let data = std::env::temp_dir().join(format!("counterpart-pg-{}-{port}", std::process::id()));
        std::fs::create_dir(&data).expect("the temporary folder is writable");
        let mut command = Command::new("sh");
        command
            .args(["-c", KEEPER, "sh"])
            .arg(programs)
            .arg(&data)
            .arg(port.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .current_dir(std::env::temp_dir());
        let owner = std::fs::metadata(&data).expect("it was just made").uid();
        if owner == 0 {
            // The server refuses to run as root.
            let (user, group) = unprivileged();
            chown(&data, Some(user), Some(group)).expect("root may give a folder away");
            command.uid(user).gid(group);
        }
        let mut keeper = command.spawn().expect("sh is there");
        let mut said = String::new();
        let stdout = keeper.stdout.take().expect("it is piped");
        BufReader::new(stdout).read_line(&mut said).expect("its output is text");
        if said.trim() != "ready" {
            let mut why = String::new();
            let stderr = keeper.stderr.take().expect("it is piped");
            let _ = BufReader::new(stderr).read_to_string(&mut why);
            let _ = std::fs::remove_dir_all(&data);
            panic!("PostgreSQL did not start: {why}");
        }
        Server { keeper, port }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

/// Where Debian's package keeps the programs it leaves off the path, newest version first; else the path.
fn programs() -> Option<PathBuf> {
    let mut versions: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path().join("bin")))
        .filter(|folder| has_server(folder))
        .collect();
    versions.sort_by_key(|folder| {
        let version = folder.parent().and_then(Path::file_name);
        version.and_then(|name| name.to_str()?.parse::<u32>().ok())
    });
    versions.pop().or_else(|| {
        let path = std::env::var_os("PATH")?;
        std::env::split_paths(&path).find(|folder| has_server(folder))
    })
}

fn has_server(folder: &Path) -> bool {
    folder.join("initdb").is_file() && folder.join("pg_ctl").is_file()
}

/// User and group of the account made by the package, or of any other that is not root.
fn unprivileged() -> (u32, u32) {
    let users = std::fs::read_to_string("/etc/passwd").expect("the system has users");
    let ids = |line: &str| -> Option<(u32, u32)> {
        let mut fields = line.split(':').skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    let named = |name: &str| {
        let prefix = format!("{name}:");
        users.lines().find(|line| line.starts_with(&prefix)).and_then(ids)
    };
    named("postgres")
        .or_else(|| named("nobody"))
        .or_else(|| users.lines().filter_map(ids).find(|(user, _)| *user != 0))
        .expect("some user is not root")
}

/// A port of loopback that nobody listens on now.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback works");
    listener.local_addr().expect("it is bound").port()
}
