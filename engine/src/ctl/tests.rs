//! Server and client: orders and outcomes, permissions, what is left behind, nonsense.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

use super::*;

/// A server whose orders are echoed; those that say `Reload` are refused.
fn with_echo<T>(path: &Path, run: impl FnOnce() -> T) -> T {
    let server = CtlServer::start(path).expect("a server");
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let server = server;
            while !done.load(std::sync::atomic::Ordering::Acquire) {
                let Some(pending) = server.next(Duration::from_millis(10)) else { continue };
                let outcome = match &pending.order {
                    Order::Reload => Err("no file".to_owned()),
                    order => Ok(serde_json::to_value(order).expect("JSON")),
                };
                pending.answer(outcome);
            }
        });
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run));
        done.store(true, std::sync::atomic::Ordering::Release);
        result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn raw(path: &Path, bytes: &[u8]) -> String {
    let mut stream = UnixStream::connect(path).expect("a connection");
    stream.write_all(bytes).expect("written");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

#[test]
fn orders_have_outcomes_and_only_the_owner_may_give_them() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("ctl.sock");
    with_echo(&path, || {
        let mode = std::fs::metadata(&path).expect("a socket").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 1, "no other name is left");
        let order = Order::Mode { mode: Some("off".to_owned()), pair: None };
        assert_eq!(ask(&path, &order).expect("an answer"), json!({ "do": "mode", "mode": "off" }));
        let refused = ask(&path, &Order::Reload).expect_err("refused");
        assert_eq!(refused.to_string(), "no file");
        for nonsense in [&b"hello\n"[..], b"{\"do\":\"fly\"}\n", b"\xff\xfe\n", b"\n"] {
            let answer = raw(&path, nonsense);
            assert!(answer.starts_with("{\"error\":\"not an order"), "{nonsense:?}: {answer}");
        }
        assert!(ask(&path, &Order::Status).is_ok(), "nonsense harms nobody else");
        let taken = CtlServer::start(&path).expect_err("taken").to_string();
        assert!(taken.contains("a running colo has it"), "{taken}");
    });
    assert!(!path.exists(), "the socket goes with the server");
    let nobody = ask(&path, &Order::Status).expect_err("nobody").to_string();
    assert!(nobody.starts_with("no colo listens on ") && nobody.contains("--ctl PATH"), "{nobody}");
}

#[test]
fn what_a_dead_engine_left_is_replaced_and_a_file_is_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("ctl.sock");
    drop(UnixListener::bind(&path).expect("a socket"));
    assert!(path.exists(), "dropping a listener leaves its name");
    with_echo(&path, || assert!(ask(&path, &Order::Status).is_ok()));
    let none = CtlServer::start(&folder.path().join("no/such")).expect_err("no folder").to_string();
    assert!(none.contains("--ctl off"), "{none}");
}
