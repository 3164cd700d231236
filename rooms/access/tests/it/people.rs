//! Role by action against the table in the documentation: neither changes without the other.

use access::{Action, Asker, DeniedAct, People, Role, Roles};

const CHAPTER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/access/people.md");

/// ` ` no, `x` yes, `f` with a fresh proof.
fn mark(people: &People, asker: Asker, action: Action) -> char {
    match people.decide(asker, action) {
        Ok(_) => 'x',
        Err(DeniedAct::NotFresh) => 'f',
        Err(_) => ' ',
    }
}

fn table(people: &People) -> String {
    let service = |observes_network, speaks_for_owners| Asker::Service {
        observes_network,
        speaks_for_owners,
    };
    let mut columns: Vec<(&str, Asker)> = Role::ALL
        .map(|role| {
            let roles = Roles::of([role]);
            (
                role.name(),
                Asker::Person {
                    roles,
                    is_fresh: false,
                },
            )
        })
        .to_vec();
    columns.extend([
        ("machine", Asker::Machine),
        ("service", service(false, false)),
        ("observer", service(true, false)),
        ("for owners", service(false, true)),
        ("device", Asker::Device),
        ("stranger", Asker::Stranger),
    ]);
    let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
    let mut text = format!(
        "| action | {} |\n|---|{}\n",
        names.join(" | "),
        "---|".repeat(names.len())
    );
    for action in Action::ALL {
        let marks: Vec<String> = (columns.iter())
            .map(|(_, asker)| mark(people, *asker, *action).to_string())
            .collect();
        text.push_str(&format!(
            "| `{}` | {} |\n",
            action.name(),
            marks.join(" | ")
        ));
    }
    text
}

#[test]
fn each_role_may_do_what_the_table_in_the_documentation_says_and_nothing_else() {
    let expected = std::fs::read_to_string(CHAPTER).unwrap();
    let now = table(&People::new().unwrap());
    assert!(
        expected.contains(&now),
        "docs/access/people.md says something else; decide which of the two is right. This is what \
         the policies say:\n{now}"
    );
}

#[test]
fn many_roles_give_what_each_of_them_gives_and_no_more() {
    let people = People::new().unwrap();
    let is_fresh = true;
    let may = |roles, action| {
        people
            .decide(Asker::Person { roles, is_fresh }, action)
            .is_ok()
    };
    for first in Role::ALL {
        for second in Role::ALL {
            for action in Action::ALL {
                let both = may(Roles::of([first, second]), *action);
                let either = may(Roles::of([first]), *action) || may(Roles::of([second]), *action);
                assert_eq!(both, either, "{first:?} {second:?} {action:?}");
            }
        }
    }
}

#[test]
fn a_token_may_never_do_more_than_a_person_with_its_roles() {
    let people = People::new().unwrap();
    for role in Role::ALL {
        let roles = Roles::of([role]);
        for action in Action::ALL {
            let token = people.decide(Asker::Token { roles }, *action).is_ok();
            let person = people
                .decide(
                    Asker::Person {
                        roles,
                        is_fresh: true,
                    },
                    *action,
                )
                .is_ok();
            assert!(person || !token, "{role:?} {action:?}");
        }
    }
}
