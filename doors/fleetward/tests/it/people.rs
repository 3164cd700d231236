//! People and tokens at the door for people: what a role opens, what taking it away closes.

use crate::http::{self, Answer};
use crate::plane::{Home, PATIENCE, Plane, Settings, wait_until};
use serde_json::{Value, json};
use sim::tls::{Client, Endpoint, Options};
use std::time::Instant;

/// Somebody at the door for people, with a cookie, a token or nothing.
pub struct Asker<'p> {
    plane: &'p Plane,
    client: Client,
    credential: String,
}

impl<'p> Asker<'p> {
    pub fn stranger(plane: &'p Plane) -> Self {
        let endpoint = Endpoint::new(plane.people, "localhost", &[plane.root()]).unwrap();
        Self {
            plane,
            client: Client::new(&endpoint, None, &Options::default()).unwrap(),
            credential: String::new(),
        }
    }

    /// Who spends a sign-in link, as it stands in an address.
    pub fn by_link(plane: &'p Plane, link: &str) -> Self {
        let mut asker = Self::stranger(plane);
        let token = link.trim().rsplit("#sign-in=").next().unwrap();
        let body = json!({ "token": token });
        asker.sign_in("/api/v1/access/sign-in", &body).expect(204);
        asker
    }

    /// Asks to be let in, and keeps the cookie.
    pub fn sign_in(&mut self, path: &str, body: &Value) -> Answer {
        let (head, answer) = self.ask("POST", path, &[], Some(body));
        let cookie = head
            .lines()
            .find_map(|line| line.strip_prefix("set-cookie: "));
        if let Some(cookie) = cookie {
            let cookie = cookie.split(';').next().unwrap();
            self.credential = format!("Sec-Fetch-Site: same-origin\r\nCookie: {cookie}\r\n");
        }
        answer
    }

    /// The same browser in another moment.
    pub fn copy(&self) -> Self {
        let mut copy = Self::stranger(self.plane);
        copy.credential.clone_from(&self.credential);
        copy
    }

    /// The first person, by the link that is made on the plane's machine.
    pub fn first(home: &Home, plane: &'p Plane) -> Self {
        plane
            .post("/api/v1/access/admin-links", &json!({}))
            .expect(204);
        let link = std::fs::read_to_string(home.data_dir().join("admin-link")).unwrap();
        Self::by_link(plane, &link)
    }

    pub fn by_token(plane: &'p Plane, secret: &str) -> Self {
        let mut asker = Self::stranger(plane);
        asker.credential = format!("Authorization: Bearer {secret}\r\n");
        asker
    }

    pub fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[], None).1
    }

    pub fn post(&self, path: &str, body: &Value) -> Answer {
        self.ask("POST", path, &[], Some(body)).1
    }

    /// As a program of others posts it.
    pub fn post_form(&self, path: &str, form: &str) -> Answer {
        self.post_form_saying(path, &[], form)
    }

    pub fn post_form_saying(&self, path: &str, headers: &[&str], form: &str) -> Answer {
        let media_type = "application/x-www-form-urlencoded";
        self.send_as("POST", path, headers, Some((media_type, form)))
            .1
    }

    pub fn delete(&self, path: &str) -> Answer {
        self.ask("DELETE", path, &[], None).1
    }

    pub fn ask(
        &self,
        method: &str,
        path: &str,
        headers: &[&str],
        body: Option<&Value>,
    ) -> (String, Answer) {
        self.send(method, path, headers, body.map(Value::to_string).as_deref())
    }

    /// The head of the answer, and all of it.
    fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[&str],
        body: Option<&str>,
    ) -> (String, Answer) {
        let media_type = |body: &str| match body.starts_with('{') {
            true => "application/json",
            false => "text/plain",
        };
        let body = body.map(|body| (media_type(body), body));
        self.send_as(method, path, headers, body)
    }

    fn send_as(
        &self,
        method: &str,
        path: &str,
        headers: &[&str],
        body: Option<(&str, &str)>,
    ) -> (String, Answer) {
        let mut request = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{}",
            self.credential
        );
        for header in headers {
            request.push_str(&format!("{header}\r\n"));
        }
        if let Some((media_type, body)) = body {
            let length = body.len();
            request.push_str(&format!(
                "Content-Type: {media_type}\r\nContent-Length: {length}\r\n"
            ));
        }
        request.push_str("\r\n");
        request.push_str(body.map_or("", |(_, body)| body));
        let mut transport = self.client.connect(PATIENCE).unwrap();
        let deadline = Instant::now() + PATIENCE;
        transport.write(request.as_bytes(), deadline).unwrap();
        let mut received = Vec::new();
        while transport.read(&mut received, deadline).is_ok() {}
        let text = String::from_utf8_lossy(&received);
        let head = text.split("\r\n\r\n").next().unwrap().to_owned();
        let answer = http::read(&received);
        let answer = answer.unwrap_or_else(|| panic!("{method} {path}: {text}"));
        (head, answer)
    }

    pub fn who(&self) -> Value {
        self.get("/api/v1/access/whoami").expect(200).json()
    }

    /// A person with these roles who has joined, by name.
    pub fn invite(&self, roles: &[&str]) -> (String, Asker<'p>) {
        let new = json!({ "name": "Ada Lovelace", "roles": roles });
        let added = self.post("/api/v1/access/people", &new).expect(201).json();
        let asker = Self::by_link(self.plane, added["link"].as_str().unwrap());
        let id = added["person"]["person"].as_str().unwrap().to_owned();
        (id, asker)
    }

    /// An operator with all roles for an hour, by two people's word.
    pub fn invite_with_broken_glass(&self) -> Asker<'p> {
        let (_, operator) = self.invite(&["operator"]);
        let reason = json!({ "reason": "a test" });
        operator
            .post("/api/v1/access/break-glass", &reason)
            .expect(202);
        approve(self, &waiting(self)).expect(200);
        operator
    }

    /// How it shows who it is, for a configuration in TOML.
    pub fn headers_toml(&self) -> String {
        let lines = self.credential.lines().map(|line| {
            let (name, value) = line.split_once(": ").unwrap();
            format!("{name:?} = {value:?}")
        });
        let lines: Vec<String> = lines.collect();
        format!("headers = {{ {} }}\n", lines.join(", "))
    }

    pub fn token(&self, roles: &[&str], networks: &[&str]) -> (String, Asker<'p>) {
        let new = json!({ "note": "ci", "roles": roles, "days": 1, "networks": networks });
        let made = self.post("/api/v1/access/tokens", &new).expect(201).json();
        let asker = Self::by_token(self.plane, made["secret"].as_str().unwrap());
        (made["token"]["token"].as_str().unwrap().to_owned(), asker)
    }
}

const DEVICES: &str = "/api/v1/inventory/devices";
const PEOPLE: &str = "/api/v1/access/people";
const TOKENS: &str = "/api/v1/access/tokens";

#[test]
fn the_first_link_makes_the_first_person_and_an_auditor_is_expected() {
    let home = Home::new(&Settings::default());
    let plane = home.start_prepared();
    let first = Asker::first(&home, &plane);
    let who = first.who();
    assert_eq!(who["kind"], "person");
    let expected = [
        "operator",
        "pki-admin",
        "policy-admin",
        "auditor",
        "tenant-admin",
    ];
    assert_eq!(who["roles"], json!(expected));
    let people = first.get(PEOPLE).expect(200).json();
    let people = people.as_array().unwrap();
    assert_eq!(people.len(), 2);
    assert_eq!(people[1]["roles"], json!(["auditor"]));
    assert_eq!(people[1]["joined_at"], Value::Null);
    // A second link of the machine is the same person's.
    let again = Asker::first(&home, &plane);
    assert_eq!(again.who()["actor"], who["actor"]);

    let auditor = people[1]["person"].as_str().unwrap();
    let link = first.post(&format!("{PEOPLE}/{auditor}/link"), &json!({}));
    let link = link.expect(201).json();
    let auditor = Asker::by_link(&plane, link["link"].as_str().unwrap());
    auditor.get("/api/v1/audit/entries").expect(200);
    auditor.get("/api/v1/inventory/export").expect(200);
    auditor.get(PEOPLE).expect(200);
    let body = json!({ "device": "cam-1", "reason": "key-compromise" });
    let refused = auditor
        .post("/api/v1/identity/revocations", &body)
        .expect(403);
    assert_eq!(refused.json()["code"], "not-permitted");
    // The socket of the machine says what it is, too.
    let local = plane.get("/api/v1/access/whoami").expect(200).json();
    assert_eq!(local["kind"], "machine");
}

#[test]
fn a_role_opens_what_the_table_says_and_its_end_closes_it_at_once() {
    let home = Home::new(&Settings::default());
    let plane = home.start_prepared();
    let first = Asker::first(&home, &plane);
    let device = home.device("cam-1");
    plane.expect([&device]);
    let (id, operator) = first.invite(&["operator"]);
    operator.get(DEVICES).expect(200);
    let contain = json!({ "device": "cam-1", "containment": "isolated", "reason": "seen" });
    operator
        .post("/api/v1/response/containments", &contain)
        .expect(201);
    operator.get(PEOPLE).expect(403);
    let many = json!({ "product": "camera", "reason": "key-compromise" });
    let refused = operator
        .post("/api/v1/identity/revocations", &many)
        .expect(403);
    assert!(
        refused.text().contains("identity.revoke-many"),
        "{}",
        refused.text()
    );

    // Roles are taken with the version that was looked at, and not without.
    let path = format!("{PEOPLE}/{id}");
    let viewer = json!({ "name": "Ada", "roles": ["viewer"] });
    first.ask("PUT", &path, &[], Some(&viewer)).1.expect(428);
    let stale = ["If-Match: \"1\""];
    first.ask("PUT", &path, &stale, Some(&viewer)).1.expect(412);
    let seen = ["If-Match: \"2\""];
    first.ask("PUT", &path, &seen, Some(&viewer)).1.expect(200);
    operator.get(DEVICES).expect(200);
    operator
        .post("/api/v1/response/containments", &contain)
        .expect(403);

    // Somebody who is let in no more is out on every screen, and their next link opens nothing.
    first.delete(&path).expect(200);
    operator.get(DEVICES).expect(401);
    first.post(&format!("{path}/link"), &json!({})).expect(409);

    // What they are called is nowhere in the log.
    let entries = serde_json::to_string(&plane.entries()).unwrap();
    assert!(entries.contains("access.person-disabled") && entries.contains(&id));
    assert!(!entries.contains("Ada"), "{entries}");
}

#[test]
fn a_token_does_what_its_roles_say_until_it_is_revoked() {
    let home = Home::new(&Settings::default());
    let plane = home.start_prepared();
    let first = Asker::first(&home, &plane);
    let (id, viewer) = first.token(&["viewer"], &[]);
    assert_eq!(viewer.who()["actor"], json!(format!("token/{id}")));
    viewer.get(DEVICES).expect(200);
    viewer.get("/metrics").expect(403);
    viewer.get(TOKENS).expect(403);
    // From elsewhere it opens nothing, and nobody learns why.
    let (_, elsewhere) = first.token(&["viewer"], &["203.0.113.0/24"]);
    let refused = elsewhere.get(DEVICES).expect(401).json();
    assert_eq!(refused["code"], "token-refused");
    let unknown = Asker::by_token(&plane, "fwt_AAAA")
        .get(DEVICES)
        .expect(401)
        .json();
    assert_eq!(unknown["detail"], refused["detail"]);
    // A program makes no people and no tokens, whatever it is given.
    let new = json!({ "note": "x", "roles": ["tenant-admin"], "days": 1 });
    first.post(TOKENS, &new).expect(409);
    for days in [0, 398] {
        let new = json!({ "note": "x", "roles": ["viewer"], "days": days });
        first.post(TOKENS, &new).expect(400);
    }
    // In an address a secret is none.
    let secret = viewer.credential.trim().rsplit(' ').next().unwrap();
    let stranger = Asker::stranger(&plane);
    stranger
        .get(&format!("{DEVICES}?access_token={secret}"))
        .expect(401);

    let told = first.get(TOKENS).expect(200);
    assert!(!told.text().contains(secret));
    let used = told
        .json()
        .as_array()
        .unwrap()
        .iter()
        .any(|one| one["used_at"].is_string());
    assert!(used, "{}", told.text());
    first.delete(&format!("{TOKENS}/{id}")).expect(200);
    viewer.get(DEVICES).expect(401);
    let lines = plane.stop_well();
    assert!(!lines.iter().any(|line| line.contains(secret)));
    // Nor does a restart bring it back.
    let plane = home.start();
    Asker::by_token(&plane, secret).get(DEVICES).expect(401);
}

#[test]
fn a_cookie_that_a_page_of_another_origin_sends_is_refused() {
    let home = Home::new(&Settings::default());
    let plane = home.start_prepared();
    let mut first = Asker::first(&home, &plane);
    first.get(DEVICES).expect(200);
    for site in ["cross-site", "same-site"] {
        first.credential = first.credential.replace("same-origin", site);
        let refused = first.get(DEVICES).expect(403).json();
        assert_eq!(refused["code"], "cross-origin");
        first.credential = first.credential.replace(site, "same-origin");
    }
}

#[test]
fn an_act_that_is_asked_for_again_is_done_once_and_after_a_restart_not_a_second_time() {
    let home = Home::new(&Settings::default());
    let plane = home.start_prepared();
    let first = Asker::first(&home, &plane);
    let new = json!({ "note": "ci", "roles": ["viewer"], "days": 1 });
    let make = |asker: &Asker<'_>, key: &str, new: &Value| {
        let key = format!("Idempotency-Key: {key}");
        asker.ask("POST", TOKENS, &[&key], Some(new))
    };
    let (_, made) = make(&first, "\"one\"", &new);
    let made = made.expect(201).json();
    let (head, again) = make(&first, "one", &new);
    // The secret, too: its first answer may have been lost.
    assert_eq!(again.expect(201).json(), made);
    assert!(head.contains("idempotency-replayed: true"), "{head}");
    let tokens = |asker: &Asker<'_>| asker.get(TOKENS).expect(200).json();
    assert_eq!(tokens(&first).as_array().unwrap().len(), 1);
    // The same key for something else, a key that is none, and another person's own.
    let other = json!({ "note": "ci", "roles": ["auditor"], "days": 1 });
    let refused = make(&first, "one", &other).1.expect(422).json();
    assert_eq!(refused["code"], "key-reused");
    make(&first, &"x".repeat(129), &new).1.expect(400);
    make(&first, "two", &new).1.expect(201);
    let (_, second) = first.invite(&["operator"]);
    let mine = json!({ "device": "cam-1", "containment": "isolated", "reason": "seen" });
    let contain = |asker: &Asker<'_>| {
        let path = "/api/v1/response/containments";
        asker
            .ask("POST", path, &["Idempotency-Key: one"], Some(&mine))
            .1
    };
    contain(&second).expect(201);
    let entries = plane.entries().len();
    contain(&second).expect(201);
    assert_eq!(plane.entries().len(), entries);
    // What was refused is refused again, and is not done meanwhile.
    let bad = json!({ "note": "ci", "roles": ["tenant-admin"], "days": 1 });
    make(&first, "three", &bad).1.expect(409);
    make(&first, "three", &bad).1.expect(409);

    // That it was asked for is on record, what was answered is not.
    drop((first, second));
    plane.kill();
    let plane = home.start();
    let first = Asker::first(&home, &plane);
    let refused = make(&first, "one", &new).1.expect(409).json();
    assert_eq!(refused["code"], "asked-before");
    make(&first, "one", &other).1.expect(422);
    assert_eq!(tokens(&first).as_array().unwrap().len(), 2);
}

#[test]
fn lists_come_in_pages_and_a_person_has_the_version_that_a_change_names() {
    let home = Home::new(&Settings::default());
    let plane = home.start_prepared();
    let first = Asker::first(&home, &plane);
    for _ in 0..3 {
        first.token(&["viewer"], &[]);
    }
    let whole = first.get(TOKENS).expect(200).json();
    let (mut seen, mut query) = (Vec::new(), "?limit=2".to_owned());
    loop {
        let (head, page) = first.ask("GET", &format!("{TOKENS}{query}"), &[], None);
        let page = page.expect(200).json();
        seen.extend(page.as_array().unwrap().clone());
        let link = head.lines().find_map(|line| line.strip_prefix("link: <"));
        let Some(next) = link.and_then(|link| link.strip_suffix(">; rel=\"next\"")) else {
            break;
        };
        query = format!("{next}&limit=2");
    }
    assert_eq!(Value::from(seen), whole);
    first.get(&format!("{TOKENS}?after=AAAA")).expect(400);
    first.get(&format!("{TOKENS}?offset=1")).expect(400);

    let (id, _) = first.invite(&["viewer"]);
    let path = format!("{PEOPLE}/{id}");
    let (head, one) = first.ask("GET", &path, &[], None);
    assert_eq!(one.expect(200).json()["person"], json!(id));
    let tag = head.lines().find_map(|line| line.strip_prefix("etag: "));
    let seen = format!("If-Match: {}", tag.unwrap());
    let new = json!({ "name": "Ada", "roles": ["auditor"] });
    first.ask("PUT", &path, &[&seen], Some(&new)).1.expect(200);
    first.ask("PUT", &path, &[&seen], Some(&new)).1.expect(412);
}

#[test]
fn attack_whoever_guesses_links_and_tokens_waits_and_nobody_else_does() {
    let home = Home::new(&Settings::default());
    let plane = home.start_prepared();
    let first = Asker::first(&home, &plane);
    let stranger = Asker::stranger(&plane);
    let guess = json!({ "token": "AAAA" });
    let said: Vec<u16> = (0..20)
        .map(|_| stranger.post("/api/v1/access/sign-in", &guess).status)
        .collect();
    assert!(
        said.starts_with(&[409; 10]) && said.contains(&429),
        "{said:?}"
    );
    let wrong = Asker::by_token(&plane, "fwt_AAAA").get(DEVICES);
    assert_eq!(wrong.expect(429).json()["code"], "too-many-guesses");
    // From the very address where somebody guesses, a right secret opens all the same.
    let (_, operator) = first.invite(&["operator"]);
    operator.get(DEVICES).expect(200);
    let (_, program) = first.token(&["viewer"], &[]);
    program.get(DEVICES).expect(200);
    // It is seen, and so is who tries what is another role's.
    for _ in 0..60 {
        operator.get(PEOPLE).expect(403);
    }
    wait_until("both are told of", || {
        let alerts = plane.get("/api/v1/detection/alerts").expect(200).json();
        let alerts = alerts["alerts"].as_array().unwrap().clone();
        let about = |subject: &str, kind: &str| {
            let is_it = |one: &&Value| {
                one["kind"] == kind && one["subject"].as_str().unwrap().starts_with(subject)
            };
            alerts.iter().any(|one| is_it(&one))
        };
        about("address/127.0.0.1", "api-abuse") && about("person/p-", "denied-attempts")
    });
}

#[test]
fn attack_a_page_elsewhere_changes_nothing_and_signs_nobody_in() {
    let home = Home::new(&Settings::default());
    let plane = home.start_prepared();
    let mut first = Asker::first(&home, &plane);
    let stranger = Asker::stranger(&plane);
    let guess = json!({ "token": "AAAA" });
    for said in ["Origin: https://evil.example", "Sec-Fetch-Site: cross-site"] {
        let signed = stranger.ask("POST", "/api/v1/access/sign-in", &[said], Some(&guess));
        assert_eq!(signed.1.expect(403).json()["code"], "cross-origin");
    }
    first.credential = first
        .credential
        .replace("Sec-Fetch-Site: same-origin\r\n", "");
    let new = json!({ "note": "ci", "roles": ["viewer"], "days": 1 });
    let make = |said: &[&str]| first.ask("POST", TOKENS, said, Some(&new)).1;
    make(&[]).expect(403);
    make(&["Origin: https://localhost:1"]).expect(403);
    make(&["Origin: https://localhost"]).expect(201);
    let (head, _) = stranger.ask("GET", "/", &[], None);
    for said in [
        "content-security-policy: default-src 'none'; script-src 'self'",
        "x-content-type-options: nosniff",
        "x-frame-options: DENY",
        "referrer-policy: no-referrer",
        "cross-origin-opener-policy: same-origin",
        "cross-origin-resource-policy: same-origin",
        "strict-transport-security: max-age=31536000",
        "permissions-policy: camera=()",
    ] {
        assert!(head.contains(said), "no {said} in {head}");
    }
    assert!(!head.to_lowercase().contains("\nserver:"), "{head}");
}

const PROPOSALS: &str = "/api/v1/access/proposals";

/// The one act that waits, as it is shown to whoever decides.
pub fn waiting(asker: &Asker<'_>) -> Value {
    let all = asker.get(PROPOSALS).expect(200).json();
    let waits = |one: &&Value| one["approved"].is_null();
    let waiting: Vec<&Value> = all.as_array().unwrap().iter().filter(waits).collect();
    assert_eq!(waiting.len(), 1, "{all}");
    waiting[0].clone()
}

pub fn approve(asker: &Asker<'_>, act: &Value) -> Answer {
    let path = format!("{PROPOSALS}/{}/approve", act["proposal"].as_str().unwrap());
    asker.post(&path, &json!({ "act_sha256": act["act_sha256"] }))
}

fn fleet_with(comment: &str) -> Value {
    let fleet = format!("name = \"test\" # {comment}\n");
    json!({ "files": [{ "path": "fleet.toml", "text": fleet }] })
}

#[test]
fn two_people_put_a_fleet_in_force_and_one_alone_does_not() {
    let home = Home::new(&Settings::default());
    let plane = home.start_prepared();
    let first = Asker::first(&home, &plane);
    let put = |asker: &Asker<'_>, files: &Value| {
        asker.ask("PUT", "/api/v1/access/fleet", &[], Some(files)).1
    };
    let plan = |comment: &str| {
        let mut files = fleet_with(comment);
        let planned = first.post("/api/v1/access/plan", &files).expect(200).json();
        files["plan"] = planned["plan"].clone();
        files
    };
    // Alone, a person is not asked for another.
    put(&first, &plan("one")).expect(200);
    let version = |asker: &Asker<'_>| {
        asker.get("/api/v1/access/fleet").expect(200).json()["version"]
            .as_u64()
            .unwrap()
    };
    let alone = version(&first);
    let (id, second) = first.invite(&["policy-admin"]);
    // From now on another one is, and both must look at the same.
    put(&first, &fleet_with("two")).expect(428);
    let two = plan("two");
    put(&first, &two).expect(202);
    assert_eq!(version(&first), alone);
    let act = waiting(&second);
    let own = approve(&first, &act).expect(409).json();
    assert_eq!(own["code"], "own-act");
    let shown = second.get(&format!(
        "{PROPOSALS}/{}",
        act["proposal"].as_str().unwrap()
    ));
    assert_eq!(shown.expect(200).json()["body"], two.to_string());
    let mut other = act.clone();
    other["act_sha256"] = json!("00".repeat(32));
    let refused = approve(&second, &other).expect(409).json();
    assert_eq!(refused["code"], "not-what-was-shown");
    // The auditor sees it and decides nothing.
    let people = first.get(PEOPLE).expect(200).json();
    let auditor = people[1]["person"].as_str().unwrap();
    let link = first
        .post(&format!("{PEOPLE}/{auditor}/link"), &json!({}))
        .expect(201);
    let auditor = Asker::by_link(&plane, link.json()["link"].as_str().unwrap());
    approve(&auditor, &waiting(&auditor)).expect(403);

    let done = approve(&second, &act).expect(200).json();
    assert_eq!(done["answer"]["version"], alone + 1);
    assert_eq!(version(&first), alone + 1);
    let again = approve(&second, &act).expect(409).json();
    assert_eq!(again["code"], "decided-already");

    // What moved in between is not put in force.
    put(&first, &plan("three")).expect(202);
    let act = waiting(&second);
    plane.apply(&[("fleet.toml", "name = \"moved\"\n".to_owned())]);
    let moved = approve(&second, &act).expect(409).json();
    assert_eq!(moved["code"], "world-moved");
    first
        .post(
            &format!("{PROPOSALS}/{}/refuse", act["proposal"].as_str().unwrap()),
            &json!({}),
        )
        .expect(204);
    // And what somebody asked for who is in no more is void.
    put(&second, &plan("four")).expect(202);
    let act = waiting(&first);
    first.delete(&format!("{PEOPLE}/{id}")).expect(200);
    let gone = approve(&first, &act).expect(409).json();
    assert_eq!(gone["code"], "proposer-gone");

    let entries = plane.entries();
    let by = |action: &str| {
        let found = entries.iter().find(|entry| entry["action"] == action);
        found.unwrap_or_else(|| panic!("no {action}"))["actor"].clone()
    };
    assert_eq!(by("access.act-approved"), json!(format!("person/{id}")));
    assert_eq!(by("access.act-proposed"), first.who()["actor"]);
}

#[test]
fn strong_rights_a_whole_product_and_a_ca_wait_for_a_second_person() {
    let home = Home::new(&Settings::default());
    let plane = home.start_prepared();
    let first = Asker::first(&home, &plane);
    let (_, second) = first.invite(&["tenant-admin", "pki-admin"]);
    let refuse_all = |asker: &Asker<'_>| {
        let act = waiting(asker);
        let path = format!("{PROPOSALS}/{}/refuse", act["proposal"].as_str().unwrap());
        asker.post(&path, &json!({})).expect(204);
    };
    let (path, person) = (
        PEOPLE,
        |roles: &[&str]| json!({ "name": "Eve", "roles": roles }),
    );
    first.post(path, &person(&["viewer"])).expect(201);
    first.post(path, &person(&["operator"])).expect(202);
    refuse_all(&second);
    let token = |roles: &[&str]| json!({ "note": "ci", "roles": roles, "days": 1 });
    first.post(TOKENS, &token(&["auditor"])).expect(201);
    first.post(TOKENS, &token(&["pki-admin"])).expect(202);
    let act = waiting(&second);
    let made = approve(&second, &act).expect(200).json();
    let program = Asker::by_token(&plane, made["answer"]["secret"].as_str().unwrap());
    assert_eq!(program.who()["roles"], json!(["pki-admin"]));
    // A link to somebody with strong roles would be their account.
    let people = first.get(PEOPLE).expect(200).json();
    let strong = people[0]["person"].as_str().unwrap();
    second
        .post(&format!("{PEOPLE}/{strong}/link"), &json!({}))
        .expect(202);
    refuse_all(&first);

    // By a program as well; and a product is not revoked through a list, either.
    let product = json!({ "product": "camera", "reason": "key-compromise" });
    let revocations = "/api/v1/identity/revocations";
    program.post(revocations, &product).expect(202);
    assert_eq!(waiting(&second)["action"], "identity.revoke-many");
    refuse_all(&second);
    let mut dry = product.clone();
    dry["dry_run"] = json!(true);
    first.post(revocations, &dry).expect(200);
    let list = "/api/v1/identity/revocations/list?reason=key-compromise";
    first
        .send("POST", list, &[], Some("device/cam-9\nproduct/camera\n"))
        .1
        .expect(202);
    assert_eq!(waiting(&second)["class"], "revoke-many");
    refuse_all(&second);
    first
        .send("POST", list, &[], Some("device/cam-9\n"))
        .1
        .expect(201);
    let rollover = "/api/v1/identity/authorities/default/rollover";
    first.post(rollover, &json!({})).expect(202);
    let done = approve(&second, &waiting(&second));
    assert!([200, 409].contains(&done.status), "{}", done.text());
    // The machine's own user is not asked for another.
    plane.post(revocations, &product).expect(201);
}

#[test]
fn the_glass_is_broken_by_two_and_for_an_hour() {
    let home = Home::new(&Settings::default());
    let plane = home.start_prepared();
    let first = Asker::first(&home, &plane);
    let (id, operator) = first.invite(&["operator"]);
    let reason = json!({ "reason": "the only pki-admin is away and the CA is stolen" });
    operator
        .post("/api/v1/access/break-glass", &reason)
        .expect(202);
    assert_eq!(operator.who()["roles"], json!(["operator"]));
    let act = waiting(&operator);
    assert_eq!(
        approve(&operator, &act).expect(409).json()["code"],
        "own-act"
    );
    approve(&first, &act).expect(200);
    assert_eq!(operator.who()["roles"], json!(["operator", "break-glass"]));
    operator.get(PEOPLE).expect(403);
    operator
        .post("/api/v1/access/plan", &fleet_with("x"))
        .expect(200);
    let entries = plane.entries();
    let broken = entries
        .iter()
        .find(|one| one["action"] == "access.glass-broken")
        .unwrap();
    assert_eq!(broken["actor"], json!(format!("person/{id}")));
    // Loud: whoever looks at alerts or at the plane's own log sees it.
    wait_until("there is an alert about it", || {
        let alerts = plane.get("/api/v1/detection/alerts").expect(200).json();
        let alerts = alerts["alerts"].as_array().unwrap().clone();
        let is_it = |one: &Value| {
            let about = one["subject"] == json!(format!("person/{id}"));
            about && one["entity"] == "break-glass" && one["severity"] == "high"
        };
        alerts.iter().any(is_it)
    });
    // A restart mends it.
    drop((first, operator));
    let lines = plane.stop_well();
    let told = format!("person/{id} broke the glass");
    assert!(lines.iter().any(|line| line.contains(&told)), "{lines:?}");
    let plane = home.start();
    let first = Asker::first(&home, &plane);
    let link = first
        .post(&format!("{PEOPLE}/{id}/link"), &json!({}))
        .expect(201);
    let operator = Asker::by_link(&plane, link.json()["link"].as_str().unwrap());
    assert_eq!(operator.who()["roles"], json!(["operator"]));
}
