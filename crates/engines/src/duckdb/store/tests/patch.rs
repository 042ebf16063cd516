//! Restoring in place, whatever happens.

use super::*;
use std::io;

/// Live states that a restore of `[1, 2, 3, 4, 5, 6]` may meet.
fn live_states() -> Vec<Vec<u8>> {
    let mut states = vec![
        database(&[1, 2, 9, 4, 5, 6]),
        database(&[9, 2, 3, 4, 5, 7, 8, 8]),
        database(&[1, 2]),
        database(&[6, 5, 4, 3, 2, 1]),
        Vec::new(),
        vec![7; 5000],
    ];
    let mut torn = database(&[1, 2, 3, 4, 5, 6]);
    torn[..4096].fill(0);
    states.push(torn);
    let mut tail = database(&[1, 2, 3, 4, 5, 6]);
    tail.push(1);
    states.push(tail);
    states
}

const WANTED: [u8; 6] = [1, 2, 3, 4, 5, 6];

fn patch(
    s: &Scratch,
    live: &Path,
    hook: &mut dyn FnMut(PatchPhase) -> io::Result<()>,
) -> Result<PatchReport> {
    Store::open(&s.store())?.patch("R1", "main", live, hook, &silent)
}

#[test]
fn only_differing_blocks_and_the_headers_are_written() {
    let s = Scratch::new();
    s.snapshot("R1", &database(&WANTED));
    let live = s.file(&database(&[1, 2, 9, 4, 5, 6]));
    let report = patch(&s, &live, &mut |_| Ok(())).unwrap();
    assert_eq!(report.chunks_written, 2);
    assert_eq!(report.bytes_written, 12_288 + BLOCK as u64);
    assert_eq!(fs::read(&live).unwrap(), database(&WANTED));
    let report = patch(&s, &live, &mut |_| panic!("nothing differs")).unwrap();
    assert_eq!(report.chunks_written, 0);
}

/// What differs is then told by the two points; that the outcome is the same is what a user sees.
#[test]
fn a_file_that_was_packed_as_it_is_comes_back_whole_too() {
    let s = Scratch::new();
    let wanted = database(&WANTED);
    s.snapshot("R1", &wanted);
    for before in live_states() {
        let live = s.file(&before);
        std::thread::sleep(std::time::Duration::from_millis(2100));
        let mut writer = s.writer();
        writer.snapshot(&live, "R2", "main", &silent).unwrap();
        let identity = FileIdentity::of(&fs::metadata(&live).unwrap());
        let known = writer.store().same_file("main", identity).unwrap();
        assert_eq!(known.map(|p| p.info.point).as_deref(), Some("R2"));
        let report = patch(&s, &live, &mut |_| Ok(())).unwrap();
        assert_eq!(report.bytes, wanted.len() as u64);
        assert!(fs::read(&live).unwrap() == wanted);
        writer.forget("R2", "main").unwrap();
    }
}

#[test]
fn stopped_at_any_step_it_is_sealed_and_runs_to_the_end_when_repeated() {
    let s = Scratch::new();
    let wanted = database(&WANTED);
    s.snapshot("R1", &wanted);
    for before in live_states() {
        let mut steps = Vec::new();
        let live = s.file(&before);
        patch(&s, &live, &mut |phase| {
            steps.push(phase);
            Ok(())
        })
        .unwrap();
        assert_eq!(fs::read(&live).unwrap(), wanted);
        assert_eq!(steps.first(), Some(&PatchPhase::Seal));

        for (stop, last) in steps.iter().enumerate() {
            let live = s.file(&before);
            let mut seen = 0;
            let error = patch(&s, &live, &mut |_| {
                seen += 1;
                if seen > stop {
                    return Err(io::Error::other("pulled the plug"));
                }
                Ok(())
            })
            .unwrap_err();
            assert!(matches!(error, StoreError::Stopped { .. }), "{error}");
            let found = fs::read(&live).unwrap();
            match last {
                PatchPhase::Seal => assert!(found == before),
                PatchPhase::SyncMainHeader => assert!(found == wanted),
                _ => assert!(found[..4096].iter().all(|&b| b == 0), "{last:?}"),
            }
            patch(&s, &live, &mut |_| Ok(())).unwrap();
            assert!(
                fs::read(&live).unwrap() == wanted,
                "after a stop at {last:?}"
            );
        }
    }
}

#[test]
fn a_point_that_cannot_be_read_leaves_the_live_file_alone() {
    let s = Scratch::new();
    s.snapshot("R1", &database(&WANTED));
    let before = database(&[9, 9, 9, 9, 9, 9]);
    let live = s.file(&before);
    for pack in s.files("packs") {
        let good = fs::read(&pack).unwrap();
        let mut bytes = good.clone();
        bytes[20] ^= 1;
        fs::write(&pack, bytes).unwrap();
        let error = patch(&s, &live, &mut |_| panic!("must not begin")).unwrap_err();
        assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
        assert!(fs::read(&live).unwrap() == before);
        fs::write(&pack, good).unwrap();
    }
}

#[test]
fn files_without_headers_are_patched_too() {
    for wanted in [Vec::new(), vec![1; 10], vec![2; 6000]] {
        let s = Scratch::new();
        s.snapshot("R1", &wanted);
        for before in live_states() {
            let live = s.file(&before);
            patch(&s, &live, &mut |_| Ok(())).unwrap();
            assert!(fs::read(&live).unwrap() == wanted);
        }
    }
}
