//! The conformance suite finds what is wrong, and nothing where nothing is.

use std::sync::Arc;

use counterpart_connectors::conformance::{Report, Target, Verdict, Waiver, run};
use counterpart_connectors::kit::clock::JumpClock;

use crate::fake_crm::{FakeCrm, Fault};
use crate::{START, spec_with};

fn target(fault: Fault) -> Target {
    let crm = Arc::new(FakeCrm::new(fault));
    let spec = spec_with("crm", serde_json::json!({ "page_size": 7 }));
    Target { laboratory: crm.clone(), ..Target::new(spec, crm, Arc::new(JumpClock::at(START))) }
}

fn failed(report: &Report) -> Vec<&str> {
    let bad = |outcome: &&counterpart_connectors::conformance::Outcome| matches!(outcome.verdict, Verdict::Failed(_));
    report.outcomes.iter().filter(bad).map(|outcome| outcome.name).collect()
}

#[tokio::test]
async fn a_sound_system_passes_everything() {
    let report = run(target(Fault::None)).await;
    assert!(report.passed(), "{report}");
    assert!(report.outcomes.iter().all(|outcome| outcome.verdict == Verdict::Passed), "{report}");
    assert!(report.left_behind.is_empty(), "{report}");
    assert!(report.to_string().lines().count() > 15, "{report}");
}

#[tokio::test]
async fn every_fault_is_found_by_the_test_that_is_there_for_it() {
    for (fault, test) in [
        (Fault::SkipsRows, "walk_is_complete"),
        (Fault::RepeatsRows, "ids_are_unique_over_pages"),
        (Fault::Clobbers, "other_fields_survive_an_update"),
        (Fault::TakesTwins, "second_create_names_the_holder"),
        (Fault::NoLock, "check_refuses_a_wrong_secret"),
        (Fault::ThinReads, "fetch_equals_pull"),
        (Fault::AnyoneWillDo, "unknown_id_is_not_found"),
        (Fault::Keeps, "create_fetch_update_clear_delete"),
    ] {
        let report = run(target(fault)).await;
        assert!(failed(&report).contains(&test), "{fault:?}\n{report}");
    }
}

#[tokio::test]
async fn a_vague_search_is_made_exact_by_the_connector() {
    let report = run(target(Fault::FindsSimilar)).await;
    assert!(report.passed(), "{report}");
}

#[tokio::test]
async fn waivers_excuse_and_expire() {
    let waiver = |test: &str| Waiver { test: test.to_owned(), reason: "known".to_owned() };
    let mut excused = target(Fault::ThinReads);
    excused.waivers.push(waiver("fetch_equals_pull"));
    let report = run(excused).await;
    assert!(report.passed(), "{report}");
    assert_eq!(report.verdict("fetch_equals_pull"), Some(&Verdict::Waived("known".to_owned())));

    let mut stale = target(Fault::None);
    stale.waivers.push(waiver("fetch_equals_pull"));
    assert_eq!(failed(&run(stale).await), ["fetch_equals_pull"]);
}

#[tokio::test]
async fn without_samples_nothing_is_written() {
    let mut reading = target(Fault::None);
    reading.samples = None;
    let report = run(reading).await;
    assert!(report.passed(), "{report}");
    assert!(matches!(report.verdict("create_fetch_update_clear_delete"), Some(Verdict::Skipped(_))), "{report}");
}
