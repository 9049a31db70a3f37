//! What every implementation of [`Files`] must do: run against the real one and the one in memory, so that tests in
//! memory mean something.

use std::ffi::OsString;
use std::io::{self, ErrorKind};
use std::path::Path;

use tokensink_host::{FileHandle, FileKind, Files, OpenMode};
use tokensink_types::UnixMillis;

/// Checks all methods below `root`, an empty directory.
///
/// # Panics
/// When something is not as the port says.
pub fn check_files(files: &dyn Files, root: &Path) {
    contents(files, &root.join("contents"));
    names(files, &root.join("names"));
    directories(files, &root.join("directories"));
    modes_and_stamps(files, &root.join("modes"));
    locks(files, &root.join("locks"));
    facts(files, &root.join("facts"));
}

fn facts(files: &dyn Files, dir: &Path) {
    files.create_dir(dir, 0o700).expect("create_dir");
    let (file, other) = (dir.join("file"), dir.join("other"));
    assert_eq!(files.inspect(&file).expect("inspect"), None);
    assert_eq!(kind(files.open_itself(&file)), ErrorKind::NotFound);
    drop(write(files, &file, "text"));
    let facts = files.inspect(&file).expect("inspect").expect("there");
    assert_eq!((facts.kind, facts.links), (FileKind::File, 1));
    assert_eq!(Some(facts.stamp), files.stat(&file).expect("stat"));
    assert_eq!(facts.stamp.uid, files.user());
    files.hard_link(&file, &other).expect("hard_link");
    assert_eq!(files.inspect(&file).expect("inspect").expect("there").links, 2);
    assert_eq!(
        files.inspect(dir).expect("inspect").expect("there").kind,
        FileKind::Dir
    );
    let mut handle = files.open_itself(&file).expect("open_itself");
    let mut buffer = [0; 4];
    handle.read_at(0, &mut buffer).expect("read_at");
    assert_eq!(&buffer, b"text");
    assert!(handle.write_at(0, b"no").is_err(), "opened for reading only");
}

#[track_caller]
fn kind<T>(result: io::Result<T>) -> ErrorKind {
    match result {
        Ok(_) => panic!("it should have failed"),
        Err(error) => error.kind(),
    }
}

fn write(files: &dyn Files, path: &Path, text: &str) -> Box<dyn FileHandle> {
    let mut handle = files.create_new(path, 0o600).expect("create");
    handle.write_at(0, text.as_bytes()).expect("write");
    handle.sync().expect("sync");
    handle
}

fn contents(files: &dyn Files, dir: &Path) {
    let file = dir.join("file");
    assert_eq!(
        kind(files.create_new(&file, 0o600)),
        ErrorKind::NotFound,
        "no dir"
    );
    files.create_dir(dir, 0o700).expect("create_dir");
    assert_eq!(kind(files.read(&file)), ErrorKind::NotFound);
    assert_eq!(kind(files.open(&file, OpenMode::Read)), ErrorKind::NotFound);
    assert_eq!(files.stat(&file).expect("stat"), None);

    let mut handle = write(files, &file, "0123456789");
    assert_eq!(kind(files.create_new(&file, 0o600)), ErrorKind::AlreadyExists);
    let mut buffer = [0; 4];
    assert_eq!(handle.read_at(8, &mut buffer).expect("read_at"), 2);
    assert_eq!(&buffer[..2], b"89");
    assert_eq!(handle.read_at(50, &mut buffer).expect("past the end"), 0);
    handle.write_at(4, b"XY").expect("write_at");
    handle.truncate(7).expect("truncate");
    assert_eq!(files.read(&file).expect("read"), b"0123XY6");
    handle.write_at(9, b"Z").expect("beyond the end");
    assert_eq!(files.read(&file).expect("read"), b"0123XY6\0\0Z");

    let mut reader = files.open(&file, OpenMode::Read).expect("open");
    assert!(reader.write_at(0, b"no").is_err(), "opened for reading only");
    assert_eq!(reader.read_at(0, &mut buffer).expect("read_at"), 4);
    assert!(files.read(dir).is_err(), "a directory has no content");
    assert!(files.open(dir, OpenMode::ReadWrite).is_err());
    let below = kind(files.stat(&file.join("below")));
    assert_eq!(below, ErrorKind::NotADirectory);
}

fn names(files: &dyn Files, dir: &Path) {
    files.create_dir(dir, 0o700).expect("create_dir");
    let (a, b, c) = (dir.join("a"), dir.join("b"), dir.join("c"));
    drop(write(files, &a, "a"));
    files.hard_link(&a, &b).expect("hard_link");
    assert_eq!(kind(files.hard_link(&a, &b)), ErrorKind::AlreadyExists);
    let stamp = |path: &Path| files.stat(path).expect("stat").expect("there");
    assert_eq!(stamp(&a).inode, stamp(&b).inode);

    drop(write(files, &c, "c"));
    let mut old = files.open(&b, OpenMode::Read).expect("open");
    files.rename(&c, &b).expect("rename over");
    assert_eq!(files.read(&b).expect("read"), b"c");
    assert_eq!(files.stat(&c).expect("stat"), None);
    let mut buffer = [0; 1];
    old.read_at(0, &mut buffer).expect("the replaced file stays open");
    assert_eq!(
        (&buffer, old.stamp().expect("stamp").inode),
        (b"a", stamp(&a).inode)
    );
    assert_eq!(kind(files.rename(&c, &a)), ErrorKind::NotFound);

    let listed = files.list(dir).expect("list");
    assert_eq!(listed, [OsString::from("a"), OsString::from("b")]);
    assert_eq!(
        files.list(&dir.join("none")).expect("list"),
        Vec::<OsString>::new()
    );
    files.sync_dir(dir).expect("sync_dir");
    files.remove(&a).expect("remove");
    assert_eq!(kind(files.remove(&a)), ErrorKind::NotFound);
    assert_eq!(files.link_target(&b).expect("no link"), None);
    assert_eq!(files.link_target(&a).expect("missing"), None);
    let real = files.canonical(&b).expect("canonical");
    assert!(real.ends_with("names/b"), "{}", real.display());
    assert_eq!(kind(files.canonical(&a)), ErrorKind::NotFound);
}

fn directories(files: &dyn Files, dir: &Path) {
    files.create_dir(dir, 0o755).expect("create_dir");
    files.create_dir(dir, 0o700).expect("fine when it is there");
    let mode = files.stat(dir).expect("stat").expect("there").mode;
    assert_eq!(mode, 0o755, "what is there keeps its mode");
    assert_eq!(kind(files.create_dir_new(dir, 0o700)), ErrorKind::AlreadyExists);
    let (inner, file) = (dir.join("inner"), dir.join("file"));
    files.create_dir_new(&inner, 0o700).expect("create_dir_new");
    assert!(files.stat(&inner).expect("stat").expect("there").is_dir);
    assert_eq!(kind(files.remove_dir(dir)), ErrorKind::DirectoryNotEmpty);
    drop(write(files, &file, "x"));
    assert_eq!(kind(files.create_dir(&file, 0o700)), ErrorKind::AlreadyExists);
    assert_eq!(kind(files.remove_dir(&file)), ErrorKind::NotADirectory);
    assert!(files.remove(&inner).is_err(), "remove is for files");
    assert!(files.rename(&file, &inner).is_err(), "a directory is in the way");
    let born = || files.inspect(&inner).expect("inspect").expect("there").born_ns;
    let first = born();
    let at = UnixMillis(1_700_000_000_123);
    files.set_modified(&inner, at).expect("set_modified");
    assert_eq!(born(), first, "a birth is once");
    let stamp = files.stat(&inner).expect("stat").expect("there");
    assert_eq!(stamp.modified_ns, i128::from(at.0) * 1_000_000);
    files.remove_dir(&inner).expect("remove_dir");
    assert_eq!(kind(files.remove_dir(&inner)), ErrorKind::NotFound);
}

fn modes_and_stamps(files: &dyn Files, dir: &Path) {
    files.create_dir(dir, 0o750).expect("create_dir");
    assert_eq!(files.stat(dir).expect("stat").expect("there").mode, 0o750);
    let file = dir.join("file");
    let mut handle = files.create_new(&file, 0o664).expect("create_new");
    let born = handle.stamp().expect("stamp");
    assert_eq!((born.mode, born.size, born.is_dir), (0o664, 0, false));
    assert_eq!(files.stat(&file).expect("stat"), Some(born), "a stamp is a stamp");
    handle.write_at(0, b"abc").expect("write");
    let written = handle.stamp().expect("stamp");
    assert_eq!(written.size, 3);
    assert_ne!(written, born);
    files.set_mode(&file, 0o600).expect("set_mode");
    let after = files.stat(&file).expect("stat").expect("there");
    assert_eq!((after.mode, after.inode), (0o600, born.inode));
    assert_eq!(after.modified_ns, written.modified_ns, "a mode is no content");
}

fn locks(files: &dyn Files, dir: &Path) {
    files.create_dir(dir, 0o700).expect("create_dir");
    let path = dir.join("lock");
    let mut first = files.create_new(&path, 0o600).expect("create_new");
    let mut second = files.open(&path, OpenMode::ReadWrite).expect("open");
    let mut third = files.open(&path, OpenMode::Read).expect("open");
    assert!(first.try_lock().expect("try_lock"));
    assert!(first.try_lock().expect("again by the same"));
    assert!(!second.try_lock().expect("try_lock"));
    assert!(!third.try_lock().expect("try_lock"));
    drop(first);
    assert!(third.try_lock().expect("a handle for reading locks too"));
    assert!(!second.try_lock().expect("try_lock"));
    drop(third);
    assert!(second.try_lock().expect("try_lock"));
    files.remove(&path).expect("remove");
    let mut other = files.create_new(&path, 0o600).expect("create_new");
    assert!(other.try_lock().expect("another file of the same name"));
}
