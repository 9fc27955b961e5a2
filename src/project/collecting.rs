//! What builds leave behind: collecting it on a disk that fails, and living with much of it.

use std::fs;
use std::io::ErrorKind;

use super::faults::{assert_sound, build, built, copy};
use crate::digest::{ActionKey, Digest};
use crate::disk::faults::{Fault, arm};
use crate::gc::{self, Limits};
use crate::history::{self, Account, Draft, Origin, Past, Recorder, Variant};
use crate::store::Store;
use crate::store::lock::Wait;

/// However collecting ends, the next build has nothing to do.
#[test]
fn any_failing_step_of_collecting_costs_the_next_build_nothing() {
    let space = tempfile::tempdir().unwrap();
    let (models, before) = built(space.path(), "before");
    build(&before, &models, "0.6").unwrap();
    let root = space.path().join("root");
    let collect = || {
        let store = Store::open_alone(&root.join("cache"), Wait::Refuse)?.expect("there is a store");
        gc::collect(store, &Limits { keep_builds: 1, ..Limits::default() }, 0, false)
    };
    let prepare = || {
        let _ = fs::remove_dir_all(&root);
        copy(&before, &root);
    };
    prepare();
    let disarm = arm(&root, Fault::None);
    let removed = collect().unwrap();
    let steps = disarm();
    assert!(removed.removed > 0 && removed.removed_builds == 1 && removed.kept_builds == 1, "{removed:?}");
    for what in ["remove", "create", "commit", "sync", "rename"] {
        assert!(steps.contains(&what), "no step is called {what}");
    }
    for number in 0..steps.len() {
        for fault in [
            Fault::Once(number, ErrorKind::StorageFull),
            Fault::From(number),
            Fault::PowerCut { at: number, keeps_names: true },
        ] {
            prepare();
            let disarm = arm(&root, fault);
            let result = collect();
            disarm();
            let what = format!("{fault:?} ({})", steps[number]);
            assert!(result.is_err(), "{what} was told of as a success");
            assert_sound(&root, &what);
            let built = build(&root, &models, "0.6").unwrap_or_else(|error| panic!("{what}: then {error}"));
            assert_eq!(built.ran, 0, "{what}");
        }
    }
}

/// A build among many is found, and reads out as what it was.
#[test]
fn a_build_among_many_is_found() {
    let space = tempfile::tempdir().unwrap();
    let (models, root) = built(space.path(), "root");
    let store = || Store::open(&root.join("cache"), 1 << 20, Wait::Refuse).unwrap();
    for i in 0..100 {
        let mut actions = Recorder::default();
        for j in 0..20 {
            let key = ActionKey::from(blake3::hash(format!("{i} {j}").as_bytes()));
            actions.action(("other", &format!("tensor {j}")), key, &[Origin::Source], |sink| {
                sink.field("weight", &i.to_string());
                sink.digest("inputs[0].digest", &Digest([7; 32]));
            });
        }
        let variant = Variant {
            recipe: format!("/other/{}", i % 7),
            sets: Vec::new(),
            seed: None,
            targets: Vec::new(),
        };
        let recipe_text = format!("weight: {i}");
        let draft = Draft {
            time: i,
            variant,
            recipe_text,
            seconds: 1.0,
            outputs: Vec::new(),
            ran: 20,
            reasons: Vec::new(),
            account: Account::default(),
        };
        history::add(store().index(), draft, actions).unwrap();
    }
    assert_eq!(build(&root, &models, "0.3").unwrap().ran, 0);
    assert_eq!(history::newest(&store().index().snapshot().unwrap(), 5).unwrap().len(), 5);
    let past = |number| {
        let store = store();
        let snapshot = store.index().snapshot().unwrap();
        let past = Past::new(history::find(&snapshot, number).unwrap().unwrap(), &snapshot);
        (past.record.previous, past.recipe_text().unwrap(), past.manifest("other", "tensor 3").unwrap())
    };
    let digest = Digest([7; 32]);
    let manifest = format!("weight = 50\ninputs[0].digest = {digest}\n");
    assert_eq!(past(52), (Some(45), Some("weight: 50".to_owned()), Some(manifest)));
}
