use super::*;
use crate::sample::{self, Sample};
use crate::{Collector, EXCEPTIONS_MAX};

fn input() -> ReportInput {
    let Sample { leaves, directory, from, rules } = sample::sample();
    let (mut summary, mut rows) = (Summary::default(), Rows::default());
    let mut collector = Collector::new(directory, from.period, rules);
    leaves.iter().for_each(|leaf| collector.entry(leaf, &mut Both(&mut summary, &mut rows)));
    let findings = collector.finish(None, &mut Both(&mut summary, &mut rows));
    ReportInput { from, generator: sample::generator(), rows: rows.0, findings, summary }
}

struct Rows(BTreeMap<Population, u64>);

impl Default for Rows {
    fn default() -> Self {
        Self(Population::ALL.into_iter().map(|one| (one, 0)).collect())
    }
}

impl crate::Sink for Rows {
    fn row(&mut self, population: Population, _: &[crate::Value]) {
        *self.0.entry(population).or_default() += 1;
    }
    fn left_out(&mut self, _: Population) {}
}

#[test]
fn the_same_input_gives_the_same_bytes() {
    let input = input();
    assert_eq!(report_html(&input), report_html(&input));
}

#[test]
fn nothing_is_asked_from_elsewhere_and_nothing_runs() {
    let html = report_html(&input());
    for word in ["<script", "<link", "<img", "<iframe", "javascript:", "@import", "url(", "src=", " onload", "http:"] {
        assert!(!html.contains(word), "{word}");
    }
    let targets = html.split("href=\"").skip(1).filter_map(|rest| rest.split('"').next());
    for target in targets {
        let inside = target.starts_with('#') || target.starts_with("populations/") || target.starts_with("controls/");
        assert!(inside, "{target}");
    }
}

#[test]
fn every_anchor_leads_somewhere_once() {
    let html = report_html(&input());
    let ids: Vec<&str> = html.split(" id=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    let distinct: std::collections::BTreeSet<&str> = ids.iter().copied().collect();
    assert_eq!(ids.len(), distinct.len());
    for target in html.split("href=\"#").skip(1).filter_map(|rest| rest.split('"').next()) {
        assert!(distinct.contains(target), "{target}");
    }
}

#[test]
fn it_says_whether_other_logs_can_be_missed() {
    let mut input = input();
    let without = report_html(&input);
    assert!(without.contains("no copy of a registry of all ledgers") && !without.contains("<code>registry/</code>"));
    input.from.registry = true;
    let with = report_html(&input);
    assert!(!with.contains("no copy of a registry") && with.contains("<code>registry/</code>"));
    for html in [with, without] {
        assert_eq!(html.matches("<section").count(), html.matches("</section>").count());
        assert_eq!(html.matches("<dl").count(), html.matches("</dl>").count());
    }
}

#[test]
fn a_hostile_name_is_shown_and_harmless() {
    let html = report_html(&input());
    assert!(html.contains("mallory &lt;b&gt;<span class=\"unseen\">U+202E</span>gnp.exe"));
    assert!(!html.contains('\u{202e}') && !html.contains('\u{1b}'));
}

#[test]
fn every_control_population_and_reason_is_there() {
    let html = report_html(&input());
    for control in crate::CONTROLS {
        assert!(html.contains(&format!("id=\"{}\"", control.id)), "{}", control.id);
    }
    for population in Population::ALL {
        let about = population.about();
        assert!(html.contains(&format!(">{}</th>", about.id)), "{}", about.id);
        assert!(about.absent.is_none_or(|why| html.contains(&escape(why))), "{}", about.id);
    }
}

#[test]
fn what_was_pruned_is_told() {
    let mut input = input();
    assert!(!report_html(&input).contains("pruned: of what sessions did"));
    input.from.pruned = Some(Missing { entries: 1_200, until: input.from.created_at });
    assert!(report_html(&input).contains("1,200 entries were pruned: of what sessions did"));
}

#[test]
fn only_what_was_asked_for_is_told_and_many_exceptions_are_cut() {
    let mut input = input();
    input.from.controls = vec!["no-bypass".into()];
    let seen = (0..EXCEPTIONS_MAX as u64 + 5)
        .map(|line| crate::Exception { entry: Some(line), at: None, what: format!("line {line}") })
        .collect();
    input.findings.compared(7, seen);
    let html = report_html(&input);
    assert!(!html.contains("id=\"segregation\""));
    assert!(html.contains("These are the first 50 of 10,005."));
    assert!(html.contains("line 49<") && !html.contains("line 50<"));
}
