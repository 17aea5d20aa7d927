//! The root that a cluster's secrets hold: asked for, fetched where it must be, and what that means told. It knows
//! nothing of what is signed with it.

use super::{Workshop, hint, usage};
use crate::{
    action::cluster::root,
    build::bring,
    cli::{args::Allow, exit::Failure},
    host::{environment, path_variable, process},
    make::{
        self,
        goals::{self, Meant},
        signer::{self, Answer, Choice},
        variables::Variables,
    },
};

impl Workshop<'_> {
    /// Name of the root that signs, fetched where it must be; `None` for a dry run that would fetch it.
    pub(super) fn root_of_cluster(&self, variables: &Variables) -> Result<Option<String>, Failure> {
        let (roots, members) = self.found();
        let other_root = self.allow.contains(&Allow::OtherRoot);
        let answer = self.ask(variables)?;
        let (choice, why) = signer::choose(&answer, &roots, &members, other_root).map_err(usage)?;
        self.tell(&why);
        match (choice, &answer) {
            (Choice::Here(name), _) => Ok(Some(name)),
            (Choice::Fetched(at, name), Answer::Holds(context, held)) => {
                self.fetch(context, &held[at], &name)
            }
            _ => Ok(Some("root".to_owned())),
        }
    }

    /// What a cluster's secrets hold.
    fn ask(&self, variables: &Variables) -> Result<Answer, Failure> {
        let named = self
            .typed
            .context
            .as_deref()
            .or(variables.set("KUBECONTEXT"))
            .filter(|c| !c.is_empty());
        // Of the environment, kubectl reads it by itself.
        let kubeconfig = self
            .typed
            .variables
            .iter()
            .rfind(|(n, _)| n == "KUBECONFIG")
            .map(|(_, v)| v.as_str());
        let mut run =
            |command: &process::Command| process::run(command, &self.interrupt, &mut |_| {});
        let absent = process::path_lookup(&self.tools.kubectl, &path_variable()).is_none();
        let context = match named {
            Some(name) => name.to_owned(),
            None if absent => {
                let why = "no context is named and there is no kubectl to ask for one";
                return Ok(Answer::NoCluster(why.to_owned()));
            }
            None => {
                let current = root::current_context(&self.tools, kubeconfig, &mut run)
                    .map_err(|e| Failure::task(format!("kubectl: {e}")))?;
                match current {
                    Some(name) => name,
                    // Who names a kubeconfig means a cluster.
                    None if kubeconfig.is_some() || environment("KUBECONFIG").is_some() => {
                        return Err(usage(
                            "KUBECONFIG has no current context: name one (--context, KUBECONTEXT=)"
                                .to_owned(),
                        ));
                    }
                    None => {
                        let why =
                            "no context is named (--context, KUBECONTEXT=) and none is current";
                        return Ok(Answer::NoCluster(why.to_owned()));
                    }
                }
            }
        };
        goals::folder_name(&signer::folder_of(&context)).map_err(|why| {
            usage(format!(
                "context `{context}` cannot have a folder here: {why}"
            ))
        })?;
        let asked = root::Asked {
            context: &context,
            namespace: variables.text("ISTIO_NAMESPACE"),
            kubeconfig,
        };
        let held =
            root::fetch(&asked, &self.tools, &mut run).map_err(|e| Failure::task(e.cause))?;
        Ok(Answer::Holds(context, held))
    }

    /// Brings a cluster's root here, and says what that means.
    fn fetch(
        &self,
        context: &str,
        held: &root::Held,
        name: &str,
    ) -> Result<Option<String>, Failure> {
        if self.typed.dry_run {
            self.tell(&format!(
                "would fetch it into {name}-cert.pem and {name}-key.pem"
            ));
            return Ok(None);
        }
        let site = self.site(make::bare(&self.dir))?;
        let file = |end: &str| self.dir.join(format!("{name}-{end}.pem"));
        let files = [
            bring::Brought {
                path: file("key"),
                bytes: &held.key,
                key: true,
            },
            bring::Brought {
                path: file("cert"),
                bytes: &held.cert,
                key: false,
            },
        ];
        self.in_turn(|| bring::bring(&site, &files).map_err(|e| Failure::run(&e, false)))?;
        // Said in silence too: it is what people forget.
        hint(&format!(
            "{name}-key.pem (0600) is now the private key that signs for all of context {context}: whoever reads it can be any workload of that mesh. \
             Keep it off repositories and shared disks, and remove it when the clusters are signed"
        ));
        Ok(Some(name.to_owned()))
    }

    pub(super) fn fetch_alone(&self, goal: &Meant) -> Result<u8, Failure> {
        let variables = Variables::new(
            goal.generation,
            self.told,
            &self.typed.variables,
            &environment,
        );
        let answer = self.ask(&variables)?;
        let (context, held) = match &answer {
            Answer::Holds(context, held) => (context, held),
            Answer::NoCluster(why) => return Err(usage(why.clone())),
        };
        let (mut roots, _) = self.found();
        roots.retain(|r| r.name == signer::name_of(context));
        let other_root = self.allow.contains(&Allow::OtherRoot);
        let (choice, why) = signer::choose(&answer, &roots, &[], other_root).map_err(usage)?;
        match choice {
            Choice::Fetched(at, name) => {
                self.tell(&why);
                self.fetch(context, &held[at], &name)?;
            }
            Choice::Here(_) if !held.is_empty() => self.tell(&why),
            _ => {
                return Err(usage(format!(
                    "context {context} has no CA yet: there is nothing to fetch before istiod's first start"
                )));
            }
        }
        Ok(0)
    }
}
