//! Faults that tests put into chosen requests.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Which requests a fault is for. All given conditions must hold.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    method: Option<String>,
    suffix: Option<String>,
    vmid: Option<u32>,
    program: Option<String>,
    skip: usize,
}

/// The VM that a path is about.
fn vmid_of(path: &str) -> Option<u32> {
    let part = path.split('/').skip_while(|part| *part != "qemu").nth(1);
    part.and_then(|part| part.parse().ok())
}

impl Filter {
    /// Every request.
    pub fn any() -> Self {
        Self::default()
    }

    /// Requests of this method.
    pub fn method(mut self, method: &str) -> Self {
        self.method = Some(method.to_owned());
        self
    }

    /// Requests whose path below `/api2/json`, without its query, ends with this text, such as
    /// `/agent/exec`.
    pub fn path(mut self, suffix: &str) -> Self {
        self.suffix = Some(suffix.to_owned());
        self
    }

    /// Requests about this VM.
    pub fn vmid(mut self, vmid: u32) -> Self {
        self.vmid = Some(vmid);
        self
    }

    /// Requests to start this program, as it is written in argv, and for the result of it.
    pub fn program(mut self, program: &str) -> Self {
        self.program = Some(program.to_owned());
        self
    }

    /// Lets the first `count` matching requests pass.
    pub fn skip(mut self, count: usize) -> Self {
        self.skip = count;
        self
    }

    fn matches(&self, method: &str, path: &str, program: Option<&str>) -> bool {
        self.method.as_deref().is_none_or(|wanted| wanted == method)
            && self
                .suffix
                .as_deref()
                .is_none_or(|suffix| path.ends_with(suffix))
            && self.vmid.is_none_or(|wanted| vmid_of(path) == Some(wanted))
            && self
                .program
                .as_deref()
                .is_none_or(|wanted| program == Some(wanted))
    }
}

/// What goes wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// It takes this much longer before anything is done.
    Delay(Duration),
    /// The connection is dropped; nothing was done.
    DropBefore,
    /// It is done, then the connection is dropped without an answer.
    DropAfter,
    /// Nothing is done; an empty answer with this status and reason, such as
    /// `595 Connection refused`.
    AnswerBefore(u16, String),
    /// It is done, then the same, such as `596 Connection timed out`.
    AnswerAfter(u16, String),
    /// For this request the guest agent does not answer.
    AgentOff,
    /// For this request the VM is not running.
    VmOff,
    /// Waits for an `exec-status` that reports an end, and loses it: the agent has forgotten the
    /// process and the caller gets `got timeout`.
    LoseExecResult,
}

impl Fault {
    /// 595: the inner daemon could not be reached; nothing was done.
    pub fn connection_refused() -> Self {
        Self::AnswerBefore(595, "Connection refused".to_owned())
    }

    /// 596: the inner daemon did not answer in time; it was done.
    pub fn timed_out() -> Self {
        Self::AnswerAfter(596, "Connection timed out".to_owned())
    }
}

#[derive(Debug)]
struct Armed {
    filter: Filter,
    fault: Fault,
    left: usize,
    fired: Arc<AtomicUsize>,
}

#[derive(Debug, Default)]
struct State {
    armed: Vec<Armed>,
    silent_agents: BTreeSet<u32>,
    /// The programs that were started, by VM and process.
    programs: BTreeMap<(u32, i64), String>,
}

/// A fault that was put in.
#[derive(Debug, Clone)]
pub struct Injection {
    fired: Arc<AtomicUsize>,
}

impl Injection {
    /// How many requests it has met.
    pub fn fired(&self) -> usize {
        self.fired.load(Ordering::SeqCst)
    }
}

/// The faults of a server. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    state: Arc<Mutex<State>>,
}

impl Faults {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a fault into the next matching request.
    pub fn inject(&self, filter: Filter, fault: Fault) -> Injection {
        self.inject_times(filter, fault, 1)
    }

    /// Puts a fault into the next `times` matching requests.
    pub fn inject_times(&self, filter: Filter, fault: Fault, times: usize) -> Injection {
        let fired = Arc::<AtomicUsize>::default();
        self.lock().armed.push(Armed {
            filter,
            fault,
            left: times,
            fired: Arc::clone(&fired),
        });
        Injection { fired }
    }

    /// Loses the next result of a process in this VM.
    pub fn lose_exec_result(&self, vmid: u32) -> Injection {
        let filter = Filter::any().vmid(vmid).path("/agent/exec-status");
        self.inject(filter, Fault::LoseExecResult)
    }

    /// Stops a VM's agent from answering, or lets it answer again. The process in the guest is
    /// left alone.
    pub fn set_agent_answering(&self, vmid: u32, answering: bool) {
        let silent = &mut self.lock().silent_agents;
        if answering {
            silent.remove(&vmid);
        } else {
            silent.insert(vmid);
        }
    }

    /// Takes all faults out.
    pub fn clear(&self) {
        let mut state = self.lock();
        state.armed.clear();
        state.silent_agents.clear();
    }

    pub(super) fn agent_is_silent(&self, vmid: u32) -> bool {
        self.lock().silent_agents.contains(&vmid)
    }

    /// The faults for a request, each used up by one. A lost result is left: it is used up when
    /// there is a result to lose.
    pub(super) fn take(&self, method: &str, path: &str, program: Option<&str>) -> Vec<Fault> {
        let mut state = self.lock();
        let mut taken = Vec::new();
        for armed in &mut state.armed {
            if armed.fault == Fault::LoseExecResult || !armed.filter.matches(method, path, program)
            {
                continue;
            }
            if armed.filter.skip > 0 {
                armed.filter.skip -= 1;
                continue;
            }
            armed.left -= 1;
            armed.fired.fetch_add(1, Ordering::SeqCst);
            taken.push(armed.fault.clone());
        }
        state.armed.retain(|armed| armed.left > 0);
        taken
    }

    /// Keeps which program a process is.
    pub(super) fn started(&self, vmid: u32, pid: i64, program: &str) {
        let program = program.to_owned();
        self.lock().programs.insert((vmid, pid), program);
    }

    /// Whether the result of the process that `path` is about to report is to be lost.
    pub(super) fn take_lost_result(&self, path: &str, pid: i64) -> bool {
        let mut state = self.lock();
        let process = vmid_of(path).map(|vmid| (vmid, pid));
        let program = process.and_then(|process| state.programs.remove(&process));
        let Some(armed) = state.armed.iter_mut().find(|armed| {
            armed.fault == Fault::LoseExecResult
                && armed.filter.matches("GET", path, program.as_deref())
        }) else {
            return false;
        };
        if armed.filter.skip > 0 {
            armed.filter.skip -= 1;
            return false;
        }
        armed.left -= 1;
        armed.fired.fetch_add(1, Ordering::SeqCst);
        state.armed.retain(|armed| armed.left > 0);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_meet_the_requests_they_are_for() {
        let faults = Faults::default();
        let exec = "/nodes/pve1/qemu/101/agent/exec";
        let filter = Filter::any()
            .method("POST")
            .path("/agent/exec")
            .vmid(101)
            .skip(1);
        let injection = faults.inject_times(filter, Fault::DropAfter, 2);
        assert!(
            faults
                .take("POST", "/nodes/pve1/qemu/102/agent/exec", None)
                .is_empty()
        );
        assert!(faults.take("GET", exec, None).is_empty());
        assert!(faults.take("POST", exec, None).is_empty(), "skipped");
        assert_eq!(faults.take("POST", exec, None), vec![Fault::DropAfter]);
        assert_eq!(faults.take("POST", exec, None), vec![Fault::DropAfter]);
        assert!(faults.take("POST", exec, None).is_empty());
        assert_eq!(injection.fired(), 2);
        let status = "/nodes/pve1/qemu/101/agent/exec-status";
        let lost = faults.lose_exec_result(101);
        assert!(faults.take("GET", status, None).is_empty());
        assert!(faults.take_lost_result(status, 7));
        assert!(!faults.take_lost_result(status, 7));
        assert_eq!(lost.fired(), 1);
    }

    #[test]
    fn a_fault_of_one_program_leaves_the_others_alone() {
        let faults = Faults::default();
        let exec = "/nodes/pve1/qemu/101/agent/exec";
        let of_reload = || Filter::any().vmid(101).program("reload");
        faults.inject(of_reload().path("/agent/exec"), Fault::DropAfter);
        assert!(faults.take("POST", exec, Some("stat")).is_empty());
        assert!(faults.take("POST", exec, None).is_empty());
        assert_eq!(
            faults.take("POST", exec, Some("reload")),
            vec![Fault::DropAfter]
        );
        let status = "/nodes/pve1/qemu/101/agent/exec-status";
        let filter = of_reload().path("/agent/exec-status");
        let lost = faults.inject(filter, Fault::LoseExecResult);
        faults.started(101, 7, "stat");
        faults.started(101, 8, "reload");
        faults.started(102, 9, "reload");
        for pid in [7, 9, 10] {
            assert!(!faults.take_lost_result(status, pid), "{pid}");
        }
        assert!(faults.take_lost_result(status, 8));
        assert_eq!(lost.fired(), 1);
    }
}
