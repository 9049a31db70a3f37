//! The real file system.

use std::io::ErrorKind;
use std::os::unix::fs::symlink;
use std::path::Path;

use rustix::fs::Mode;
use rustix::process::umask;
use tokensink_host::{FileKind, Files, Host, OpenMode, OsFiles};

#[test]
fn it_does_what_the_port_says() {
    let dir = tempfile::tempdir().unwrap();
    tokensink_testkit::check_files(&OsFiles, dir.path());
}

#[test]
fn modes_do_not_depend_on_the_umask() {
    let dir = tempfile::tempdir().unwrap();
    let before = umask(Mode::from_raw_mode(0o077));
    let (file, inner) = (dir.path().join("file"), dir.path().join("inner"));
    let created = OsFiles.create_new(&file, 0o664).map(drop);
    let made = OsFiles.create_dir(&inner, 0o775);
    umask(before);
    created.unwrap();
    made.unwrap();
    let mode = |path: &Path| OsFiles.stat(path).unwrap().unwrap().mode;
    assert_eq!((mode(&file), mode(&inner)), (0o664, 0o775));
}

#[test]
fn links_are_read_and_followed() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    std::fs::write(at("file"), "x").unwrap();
    symlink("file", at("link")).unwrap();
    symlink("circle", at("circle")).unwrap();
    assert_eq!(
        OsFiles.link_target(&at("link")).unwrap().unwrap(),
        Path::new("file")
    );
    assert_eq!(OsFiles.read(&at("link")).unwrap(), b"x");
    assert!(OsFiles.canonical(&at("link")).unwrap().ends_with("file"));
    assert!(
        OsFiles.stat(&at("circle")).is_err(),
        "a circle is no missing file"
    );
    OsFiles.remove(&at("link")).unwrap();
    assert_eq!(OsFiles.read(&at("file")).unwrap(), b"x");
}

#[test]
fn huge_files_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("huge");
    let mut handle = OsFiles.create_new(&path, 0o600).unwrap();
    handle.truncate(64 * 1024 * 1024 + 1).unwrap();
    assert_eq!(OsFiles.read(&path).unwrap_err().kind(), ErrorKind::FileTooLarge);
    handle.truncate(3).unwrap();
    assert_eq!(OsFiles.read(&path).unwrap().len(), 3);
}

#[test]
fn a_real_host_has_all_ports() {
    let host = Host::real();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a");
    tokensink_host::atomic::replace(&*host.files, &*host.random, &path, b"x", 0o600).unwrap();
    assert!(
        host.files
            .open(&path, OpenMode::Read)
            .unwrap()
            .into_fd()
            .is_some()
    );
    assert_eq!(host.processes.this().pid, std::process::id());
    assert!(host.env.home().is_some_and(|home| home.is_absolute()));
    assert!(host.clock.now().0 > 1_700_000_000_000);
    let stamp = host.files.stat(&path).unwrap().unwrap();
    assert_eq!(host.processes.user(), Some(stamp.uid), "what we make is ours");
    assert!(host.files.free_space(&path).unwrap().is_some());
    assert!(host.files.free_space(&dir.path().join("none")).is_err());
}

#[test]
fn a_link_is_told_and_not_opened_and_a_pipe_is_not_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let (file, link, pipe) = (
        dir.path().join("file"),
        dir.path().join("link"),
        dir.path().join("pipe"),
    );
    drop(OsFiles.create_new(&file, 0o600).unwrap());
    symlink(&file, &link).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, Mode::from_raw_mode(0o600)).unwrap();
    let kind = |path: &Path| OsFiles.inspect(path).unwrap().unwrap().kind;
    assert_eq!(
        (kind(&file), kind(&link), kind(&pipe)),
        (FileKind::File, FileKind::Link, FileKind::Other)
    );
    assert!(OsFiles.open_itself(&link).is_err());
    OsFiles.open_itself(&pipe).unwrap();
}
