//! The command line: what can be said, and nothing of what it does.

use camino::Utf8PathBuf;
use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

/// Builds a mesh's CA files from one plan, and takes them to its clusters.
#[derive(Debug, Parser)]
#[command(name = "meshplan", version, max_term_width = 100, after_help = EXIT_CODES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const EXIT_CODES: &str = "\
Exit codes: 0 done, or nothing to do · 1 a task failed · 2 command line · 3 plan · 4 findings ·
5 refused by a gate · 6 locked by another run · 130, 143 ended by SIGINT, SIGTERM";

const MAKE: &str = "\
Options, as make has them:
  -f FILE            the Makefile that is stood in for; its text, where it is there, or its name
                     tells which. It is never executed
  -C DIR             work in this folder
  -j [N]             tasks at once (default: the machine's cores)
  -n                 say what would be made and why, change nothing
  -B                 make all anew but keys and the root
  -k                 after a failure, go on with what does not depend on it
  -s                 say nothing, unless something is wrong
  -h, -v             this text; the version
  --                 what follows are targets
and its own:
  --istio VERSION    whose Makefile is meant, such as 1.7, where a target has several meanings
  --context CONTEXT  the cluster to fetch a root from (or KUBECONTEXT=; default: the current one)
  --allow WHAT       rekey, root-reissue, other-root
  --explain          say of every file why it is made or not
  --format FORMAT    human, json
  --color WHEN       auto, always, never

`meshplan make help` lists targets and variables.
Exit codes are make's: 0 done, or nothing to do · 2 not";

/// meshplan's commands. Only the given one's options are made: those of all take 0.3 ms. Their structs have no
/// documentation of their own, which would take the place of these.
#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub enum Command {
    /// Write a plan from kubeconfig contexts, with what their clusters already are
    Init(InitArgs),
    /// Write the plan that describes what a Makefile left in a folder
    Import(ImportArgs),
    /// Build what is out of date, then take each cluster with a context its steps
    Run(RunArgs),
    /// Read the plan and say everything that is wrong with it
    Check(CheckArgs),
    /// Name the plan's targets, with what each is for
    List(ListArgs),
    /// Draw the graph: dot, mermaid, json, or a picture as svg
    Graph(GraphArgs),
    /// Say what is not as the plan has it; with --live, in the clusters too
    Verify(VerifyArgs),
    /// Remove what meshplan made on this machine, and nothing else
    Clean(CleanArgs),
    /// Remove what meshplan made in clusters, and nothing else
    Destroy(DestroyArgs),
    /// Stand in for Istio's tools/certs Makefiles, of every release
    #[command(
        disable_help_flag = true,
        override_usage = "meshplan make [OPTIONS] [TARGET|NAME=VALUE]...",
        after_help = MAKE
    )]
    Make {
        /// make's own words, in any order
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
        words: Vec<std::ffi::OsString>,
    },
    /// Write completions for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Write a manual page (roff), of meshplan or of one command
    Man {
        /// The command; without one, meshplan itself
        command: Option<String>,
    },
}

// The plan and what it is read with.
#[derive(Debug, Args)]
pub struct PlanArgs {
    /// The plan, a KDL file
    #[arg(value_hint = clap::ValueHint::FilePath)]
    pub plan: Utf8PathBuf,
    /// Build into this folder instead of the plan's work-dir
    #[arg(short = 'C', long = "directory", value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    pub directory: Option<Utf8PathBuf>,
    /// Colours: auto follows the terminal and NO_COLOR
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    pub color: Color,
}

/// When to use colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal, unless NO_COLOR is set
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// How to tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    Human,
    /// One JSON object a line, on standard output
    Json,
}

#[derive(Debug, Args)]
pub struct InitArgs {
    /// The plan to write; a file that is there is never overwritten, `-` is standard output
    #[arg(default_value = "mesh.kdl", value_hint = clap::ValueHint::FilePath)]
    pub plan: Utf8PathBuf,
    /// A kubeconfig context for each cluster, in the plan's order (repeatable; without one, they are
    /// picked on the terminal)
    #[arg(long, value_name = "CONTEXT")]
    pub context: Vec<String>,
    /// How the clusters form a mesh; with primary-remote, the first context is the primary
    #[arg(long, value_name = "TOPOLOGY", default_value = "multi-primary")]
    pub topology: Topology,
    /// The mesh ID (default: what Istio was installed with, else mesh1)
    #[arg(long, value_name = "NAME")]
    pub mesh: Option<String>,
}

#[derive(Debug, Args)]
pub struct ImportArgs {
    /// The folder with root-cert.pem and a folder for each cluster
    #[arg(value_hint = clap::ValueHint::DirPath)]
    pub dir: Utf8PathBuf,
    /// The plan to write; a file that is there is never overwritten, `-` is standard output
    #[arg(default_value = "mesh.kdl", value_hint = clap::ValueHint::FilePath)]
    pub plan: Utf8PathBuf,
    /// The mesh ID
    #[arg(long, value_name = "NAME", default_value = "mesh1")]
    pub mesh: String,
}

/// Istio's deployment models of several clusters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Topology {
    /// An istiod in each cluster; pods reach each other directly
    MultiPrimary,
    /// An istiod in each cluster; traffic between them goes through east-west gateways
    MultiPrimaryMultiNetwork,
    /// One istiod serves all clusters; pods reach each other directly
    PrimaryRemote,
    /// One istiod serves all clusters; traffic between them goes through east-west gateways
    PrimaryRemoteMultiNetwork,
}

impl Topology {
    /// Clusters but the first have no istiod of their own.
    pub fn has_remotes(self) -> bool {
        matches!(self, Self::PrimaryRemote | Self::PrimaryRemoteMultiNetwork)
    }

    /// Each cluster is on a network of its own.
    pub fn several_networks(self) -> bool {
        matches!(
            self,
            Self::MultiPrimaryMultiNetwork | Self::PrimaryRemoteMultiNetwork
        )
    }
}

#[derive(Debug, Args)]
pub struct RunArgs {
    /// The plan and its surroundings.
    #[command(flatten)]
    pub plan: PlanArgs,
    /// Targets (default: all), and NAME=VALUE for variables that the plan reads
    #[arg(value_name = "TARGET|NAME=VALUE")]
    pub words: Vec<String>,
    /// Say what would be done and why, change nothing
    #[arg(short = 'n', long)]
    pub dry_run: bool,
    /// Say of every task why it runs or does not
    #[arg(long)]
    pub explain: bool,
    /// Build everything anew but keys and the root
    #[arg(short = 'B', long)]
    pub always_make: bool,
    /// Build this target anew, whatever it is (repeatable)
    #[arg(long, value_name = "TARGET")]
    pub force: Vec<String>,
    /// Allow what could break a living mesh (comma-separated or repeated)
    #[arg(long, value_name = "WHAT", value_delimiter = ',')]
    pub allow: Vec<Allow>,
    /// After a failure, go on with what does not depend on it
    #[arg(short = 'k', long)]
    pub keep_going: bool,
    /// Tasks at once on this machine (default: its cores)
    #[arg(short = 'j', long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub jobs: Option<u16>,
    /// Cluster steps at once
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..))]
    pub cluster_jobs: u16,
    /// Write a page for a browser: what the time went into, and what waited for what (default:
    /// .meshplan/timings.html in the work directory)
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true, default_missing_value = "", conflicts_with = "dry_run", value_hint = clap::ValueHint::FilePath)]
    pub timings: Option<Utf8PathBuf>,
    /// How to tell what happens
    #[arg(long, value_name = "FORMAT", default_value = "human")]
    pub format: Format,
    /// Tell only what needs attention
    #[arg(short, long, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Tell more: starts, times, what was current
    #[arg(short, long)]
    pub verbose: bool,
}

impl RunArgs {
    /// Asks for nothing but that all be current.
    pub fn is_plain(&self) -> bool {
        let forced = self.always_make || !self.force.is_empty() || !self.allow.is_empty();
        // A page of timings is one of a walk.
        !(self.dry_run || self.explain || forced || self.timings.is_some())
    }
}

/// Gates of `run`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Allow {
    /// Replace a private key; the old one goes to the archive
    Rekey,
    /// Replace the root certificate; every cluster needs the new one
    RootReissue,
    /// Take over fields in a cluster that another field manager owns
    TakeOver,
    /// Replace the root that a living istiod serves: its workloads lose trust until they restart; with
    /// `make`, clusters of one folder under several roots
    OtherRoot,
    /// Install over an istiod of another mesh
    OtherMesh,
    /// Let a context reach another cluster than last time
    OtherCluster,
}

#[derive(Debug, Args)]
pub struct CheckArgs {
    /// The plan and its surroundings.
    #[command(flatten)]
    pub plan: PlanArgs,
    /// NAME=VALUE for variables that the plan reads
    #[arg(value_name = "NAME=VALUE")]
    pub words: Vec<String>,
    /// How to tell what is wrong
    #[arg(long, value_name = "FORMAT", default_value = "human")]
    pub format: Format,
}

#[derive(Debug, Args)]
pub struct ListArgs {
    /// The plan and its surroundings.
    #[command(flatten)]
    pub plan: PlanArgs,
    /// NAME=VALUE for variables that the plan reads
    #[arg(value_name = "NAME=VALUE")]
    pub words: Vec<String>,
    /// How to list
    #[arg(long, value_name = "FORMAT", default_value = "human")]
    pub format: Format,
}

#[derive(Debug, Args)]
pub struct GraphArgs {
    /// The plan and its surroundings.
    #[command(flatten)]
    pub plan: PlanArgs,
    /// Targets to draw with all they need (default: all), and NAME=VALUE
    #[arg(value_name = "TARGET|NAME=VALUE")]
    pub words: Vec<String>,
    /// Draw the mesh in place of its tasks: networks, clusters, who signs and who reads whom
    #[arg(long)]
    pub mesh: bool,
    /// What to write
    #[arg(long, value_name = "FORMAT", default_value = "dot")]
    pub format: Drawing,
    /// Look at the files, and show what is current and what is not
    #[arg(long)]
    pub state: bool,
}

/// Forms of a drawn graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Drawing {
    /// Graphviz
    Dot,
    /// Mermaid, as GitHub draws it
    Mermaid,
    /// Nodes and edges
    Json,
    /// A picture, drawn here
    Svg,
}

#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// The plan and its surroundings.
    #[command(flatten)]
    pub plan: PlanArgs,
    /// NAME=VALUE for variables that the plan reads
    #[arg(value_name = "NAME=VALUE")]
    pub words: Vec<String>,
    /// Ask every cluster that has a context; change nothing
    #[arg(long)]
    pub live: bool,
    /// How to tell what was found
    #[arg(long, value_name = "FORMAT", default_value = "human")]
    pub format: Format,
}

#[derive(Debug, Args)]
pub struct DestroyArgs {
    /// The plan and its surroundings.
    #[command(flatten)]
    pub plan: PlanArgs,
    /// Clusters (default: all with a context), and NAME=VALUE
    #[arg(value_name = "CLUSTER|NAME=VALUE")]
    pub words: Vec<String>,
    /// Agree to the list without being asked
    #[arg(short, long)]
    pub yes: bool,
    /// Say what would be removed, remove nothing
    #[arg(short = 'n', long)]
    pub dry_run: bool,
}

#[derive(Debug, Args)]
pub struct CleanArgs {
    /// The plan and its surroundings.
    #[command(flatten)]
    pub plan: PlanArgs,
    /// Targets (default: all), and NAME=VALUE
    #[arg(value_name = "TARGET|NAME=VALUE")]
    pub words: Vec<String>,
    /// Remove clusters' private keys too
    #[arg(long)]
    pub keys: bool,
    /// Allow what cannot be undone: with --keys, root-key removes the root key too
    #[arg(long, value_name = "WHAT", value_delimiter = ',', requires = "keys")]
    pub allow: Vec<AllowClean>,
    /// Say what would be removed, remove nothing
    #[arg(short = 'n', long)]
    pub dry_run: bool,
}

/// Gates of `clean`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum AllowClean {
    /// The root key, and with it the root certificate
    RootKey,
}
