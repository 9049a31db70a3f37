use super::*;
use std::io::ErrorKind;

fn files() -> MemFiles {
    MemFiles::default()
}

#[test]
fn it_is_a_file_system() {
    let files = files();
    files.mkdir("/root");
    crate::check_files(&files, Path::new("/root"));
}

#[test]
fn links_are_followed_everywhere_but_where_names_are_changed() {
    let files = files();
    files.put("/real/dir/file", "x", 0o600);
    files.symlink("real", "/absolute-later");
    files.symlink("../real/dir", "/links/up");
    files.symlink("up/file", "/links/file");
    files.symlink("/nowhere", "/links/dangling");
    files.symlink("circle", "/links/circle");
    assert_eq!(files.text("/links/file"), "x");
    assert_eq!(files.text("/links/up/../dir/file"), "x");
    assert_eq!(
        files.canonical(Path::new("/links/file")).unwrap(),
        Path::new("/real/dir/file")
    );
    assert_eq!(
        files.link_target(Path::new("/links/file")).unwrap().unwrap(),
        Path::new("up/file")
    );
    assert_eq!(files.stat(Path::new("/links/dangling")).unwrap(), None);
    let circle = files.stat(Path::new("/links/circle")).unwrap_err();
    assert_eq!(Errno::from_io_error(&circle), Some(Errno::LOOP));
    let exists = files.create_new(Path::new("/links/dangling"), 0o600).unwrap_err();
    assert_eq!(exists.kind(), ErrorKind::AlreadyExists, "O_EXCL follows no link");
    files.remove(Path::new("/links/file")).unwrap();
    assert_eq!(files.text("/real/dir/file"), "x", "the link went, not the file");
}

#[test]
fn permission_bits_count() {
    let files = files();
    files.put("/d/file", "x", 0o400);
    files.put("/d/secret", "x", 0o000);
    files.put("/d/theirs", "x", 0o604);
    files.chown("/d/theirs", 0);
    let kind = |result: io::Result<()>| result.unwrap_err().kind();
    let open = |path: &str, mode| files.open(Path::new(path), mode).map(drop);
    assert_eq!(
        kind(open("/d/file", OpenMode::ReadWrite)),
        ErrorKind::PermissionDenied
    );
    assert!(open("/d/file", OpenMode::Read).is_ok());
    assert_eq!(
        kind(open("/d/secret", OpenMode::Read)),
        ErrorKind::PermissionDenied
    );
    assert!(open("/d/theirs", OpenMode::Read).is_ok());
    assert_eq!(
        kind(open("/d/theirs", OpenMode::ReadWrite)),
        ErrorKind::PermissionDenied
    );
    let mode = files.set_mode(Path::new("/d/theirs"), 0o600);
    assert_eq!(kind(mode), ErrorKind::PermissionDenied);
    files.set_mode(Path::new("/d"), 0o500).unwrap();
    let refused = [
        files.create_new(Path::new("/d/new"), 0o600).map(drop),
        files.remove(Path::new("/d/file")),
        files.rename(Path::new("/d/file"), Path::new("/d/other")),
        files.create_dir(Path::new("/d/dir"), 0o700),
    ];
    for result in refused {
        assert_eq!(kind(result), ErrorKind::PermissionDenied);
    }
    files.set_mode(Path::new("/d"), 0o600).unwrap();
    assert_eq!(kind(open("/d/file", OpenMode::Read)), ErrorKind::PermissionDenied);
}

#[test]
fn a_full_disk_takes_what_fits_and_gives_space_back() {
    let files = files();
    files.put("/file", "12345", 0o600);
    files.set_free_space(Some(3));
    let mut handle = files.open(Path::new("/file"), OpenMode::ReadWrite).unwrap();
    handle.write_at(0, b"abcde").unwrap();
    let full = handle.write_at(3, b"DEFGHIJ").unwrap_err();
    assert_eq!(full.kind(), ErrorKind::StorageFull);
    assert_eq!(files.text("/file"), "abcDEFGH", "a write may be cut short");
    assert!(handle.truncate(9).is_err());
    handle.truncate(2).unwrap();
    handle.write_at(2, b"123456").unwrap();
    assert!(handle.write_at(8, b"7").is_err());
    files.remove(Path::new("/file")).unwrap();
    files.put("/other", "12345678", 0o600);
    files.set_free_space(None);
    files.put("/third", "123456789", 0o600);
}

#[test]
fn switches_fail_what_they_say() {
    let files = files();
    files.put("/file", "x", 0o600);
    files.refuse_renames(Some(Errno::BUSY));
    let busy = files.rename(Path::new("/file"), Path::new("/b")).unwrap_err();
    assert_eq!(busy.kind(), ErrorKind::ResourceBusy);
    files.refuse_renames(None);
    files.set_read_only(true);
    let refused = files.create_new(Path::new("/new"), 0o600).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ReadOnlyFilesystem);
    assert_eq!(files.text("/file"), "x");
    files.set_read_only(false);
    files.set_fault("/file", Some(Errno::IO));
    assert!(files.read(Path::new("/file")).is_err());
    files.set_fault("/file", None);
    files.set_no_locks(true);
    let mut handle = files.open(Path::new("/file"), OpenMode::Read).unwrap();
    assert_eq!(handle.try_lock().unwrap_err().kind(), ErrorKind::Unsupported);
}

#[test]
fn power_loss_leaves_what_was_synced() {
    let files = files();
    files.put("/d/old", "old", 0o600);
    let mut handle = files.create_new(Path::new("/d/new"), 0o600).unwrap();
    handle.write_at(0, b"synced").unwrap();
    handle.sync().unwrap();
    handle.write_at(0, b"SYNCED?").unwrap();
    assert!(handle.try_lock().unwrap());
    let before = files.clone();
    files.lose_power();
    assert_eq!(
        before.stat(Path::new("/d/new")).unwrap(),
        None,
        "its name was not synced"
    );

    files.put("/d/a", "a", 0o600);
    files.rename(Path::new("/d/a"), Path::new("/d/old")).unwrap();
    assert_eq!(files.text("/d/old"), "a");
    files.lose_power();
    assert_eq!(
        (files.text("/d/old"), files.text("/d/a")),
        ("old".into(), "a".into())
    );
    files.rename(Path::new("/d/a"), Path::new("/d/old")).unwrap();
    files.settle();
    files.lose_power();
    assert_eq!(files.text("/d/old"), "a");
    assert_eq!(files.snapshot().len(), 1);
}

#[test]
fn a_loss_of_power_may_leave_any_mixture_of_what_was_not_synced() {
    let sectors = |byte: u8| vec![byte; 1024];
    let mut left = std::collections::BTreeSet::new();
    for bits in 0..32_u64 {
        let files = files();
        files.put("/d/file", sectors(1), 0o600);
        let mut handle = files.open(Path::new("/d/file"), OpenMode::ReadWrite).unwrap();
        handle.write_at(0, &sectors(2)).unwrap();
        files.rename(Path::new("/d/file"), Path::new("/d/moved")).unwrap();
        assert_eq!(files.durable()[Path::new("/d/file")], sectors(1));
        let mut asked = 0;
        files.lose_power_by(&mut |outcomes| {
            asked += 1;
            (bits >> (asked - 1)) % outcomes
        });
        let facts = files
            .snapshot()
            .into_iter()
            .map(|(path, bytes)| (path, bytes[0], bytes[1023]));
        left.insert(facts.collect::<Vec<_>>());
        assert_eq!(files.durable(), files.snapshot(), "what is left is durable");
    }
    // Four contents under either name, both or none.
    assert_eq!(left.len(), 4 * 3 + 1);
}

#[test]
fn what_a_failed_sync_has_dropped_is_durable_only_when_written_again() {
    for (again, want) in [(false, "old?"), (true, "ne.?")] {
        let files = files();
        files.put("/file", "old?", 0o600);
        let mut handle = files.open(Path::new("/file"), OpenMode::ReadWrite).unwrap();
        handle.write_at(0, b"new").unwrap();
        files.drop_unsynced("/file");
        if again {
            handle.write_at(0, b"ne.").unwrap();
        }
        handle.sync().unwrap();
        assert_eq!(files.text("/file").len(), 4);
        files.lose_power();
        assert_eq!(files.text("/file"), want);
    }
}

#[test]
fn a_fork_goes_its_own_way() {
    let files = files();
    files.put("/file", "x", 0o600);
    let mut handle = files.open(Path::new("/file"), OpenMode::ReadWrite).unwrap();
    assert!(handle.try_lock().unwrap());
    let fork = files.fork(Arc::new(FakeClock::default()));
    fork.put("/file", "y", 0o600);
    assert_eq!(
        (files.text("/file"), fork.text("/file")),
        ("x".into(), "y".into())
    );
    let mut other = fork.open(Path::new("/file"), OpenMode::ReadWrite).unwrap();
    assert!(other.try_lock().unwrap());
}
