//! `doctor`: what is wrong, and with `--fix` what was done about it. It works where nothing else does, so it opens no
//! sink.

use tokensink_sink::doctor::{Doctor, Examination, Finding, Mend, Repair, Report};

use super::somebody_there;
use crate::args::DoctorArgs;
use crate::exit::{FAILED, OK, Outcome};
use crate::printer::Printer;
use crate::render::doctor as render;
use crate::render::doctor::Attempt;

/// A repair can bring something else to light, such as a loose file that was set aside.
const ROUNDS_MAX: usize = 4;

/// Runs `doctor`.
pub(super) fn run(args: &DoctorArgs, printer: &mut Printer) -> Outcome {
    let doctor = Doctor::open_here()?;
    let request = Examination {
        agent: args.agent.clone(),
        net: args.net,
    };
    let mut report = doctor.examine(&request)?;
    if args.duplicates {
        report.findings.retain(is_about_copies);
        if args.json {
            printer.json(&render::duplicates_json(&report))?;
        } else {
            let text = render::duplicates(&report.copies, &printer.look);
            printer.data(&text)?;
        }
        return Ok(code(&report));
    }
    let mut fixing = Fixing::default();
    if args.fix || args.yes {
        for _ in 0..ROUNDS_MAX {
            if !fixing.round(&doctor, &report, args, printer) {
                break;
            }
            let again = Examination {
                net: false,
                ..request.clone()
            };
            let network = report.network;
            let on_network = report.findings.into_iter().filter(Finding::is_about_network);
            report = doctor.examine(&again)?.with_network(network, on_network);
        }
    }
    if args.json {
        printer.json(&render::json(&report, &fixing.attempts))?;
    } else {
        let text = render::text(&report, &fixing.attempts, &printer.look);
        printer.data(&text)?;
    }
    Ok(code(&report))
}

fn code(report: &Report) -> u8 {
    if report.is_well() { OK } else { FAILED }
}

fn is_about_copies(finding: &Finding) -> bool {
    matches!(finding.check.id, "duplicate-grant" | "grant-in-backup")
}

/// One run of `--fix`: what was tried, and what somebody did not want.
#[derive(Default)]
struct Fixing {
    attempts: Vec<Attempt>,
    declined: Vec<Repair>,
}

impl Fixing {
    /// Does what may be done and was not tried before; `false` when there was nothing.
    fn round(&mut self, doctor: &Doctor, report: &Report, args: &DoctorArgs, printer: &mut Printer) -> bool {
        let before = self.attempts.len();
        for finding in report.to_mend() {
            let Some(repair) = &finding.repair else { continue };
            let is_known = self.declined.contains(repair)
                || self.attempts.iter().any(|attempt| attempt.repair == *repair);
            if is_known {
                continue;
            }
            let agreed = match finding.mend() {
                Mend::Safe => true,
                Mend::Asked => args.yes || agreed(finding, repair, args, printer),
                Mend::ByHand => false,
            };
            if !agreed {
                self.declined.push(repair.clone());
                continue;
            }
            self.attempts.push(Attempt {
                check: finding.check,
                what: finding.what.clone(),
                path: finding.path.clone(),
                repair: repair.clone(),
                outcome: doctor.repair(repair),
            });
        }
        self.attempts.len() > before
    }
}

/// Asks, where somebody can answer and the output is for people. Whoever gives no answer does not want it.
fn agreed(finding: &Finding, repair: &Repair, args: &DoctorArgs, printer: &mut Printer) -> bool {
    if args.json || args.non_interactive || !somebody_there() {
        return false;
    }
    printer.note(&finding.what);
    let question = inquire::Confirm::new(repair.question()).with_default(false);
    matches!(question.prompt_skippable(), Ok(Some(true)))
}
