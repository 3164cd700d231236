/** What the API answers with. */

export type Containment = 'quarantined' | 'isolated';

export interface Overview {
  sentence: string;
  level: string;
  causes: { text: string; link?: string | null }[];
  devices: { total: number; connected: number; contained: number; revoked: number; silent: number };
  incidents_open: number;
  alerts_open: number;
  fleet_version: number;
  log: { size: number; checkpoint_at?: string | null; origin: string };
  plane: { version: string; ready: boolean; reasons: string[] };
  simulated: boolean;
}

export interface DeviceRow {
  device: string;
  product?: string | null;
  groups: string[];
  serial?: string | null;
  manufacturer?: string | null;
  lifecycle: string;
  posture: string;
  posture_cause?: string | null;
  containment?: string | null;
  connected: boolean;
  last_seen?: string | null;
  firmware?: { version: string; sha256?: string | null; source: string } | null;
  addresses: { address: string; last_seen: string; source: string }[];
  country?: string | null;
  support_until?: string | null;
  incident?: string | null;
}

export interface Reach {
  kind: string;
  name: string;
  direction?: string | null;
}

export interface DevicePage extends DeviceRow {
  peers: {
    address: string;
    host?: string | null;
    port: number;
    protocol: string;
    first_seen: string;
    last_seen: string;
    bytes_out: number;
    source: string;
    expected?: boolean | null;
  }[];
  certificates: {
    certificate: string;
    not_before: string;
    not_after: string;
    revoked?: { at: string; reason: string } | null;
  }[];
  unseen: string[];
  reach: { before: Reach[]; now: Reach[] };
}

export interface Alert {
  id: number;
  subject: string;
  kind: string;
  entity: string;
  severity: string;
  state: string;
  count: number;
  first_seen: string;
  last_seen: string;
  expected: string;
  seen: string;
  source: string;
  attribution: string;
  observed_by: string;
  accepted_baseline: boolean;
  fleet_event: boolean;
  subjects: number;
  incident?: string | null;
}

export interface IncidentRow {
  id: string;
  device?: string | null;
  about: string;
  revoked: boolean;
  title: string;
  state: string;
  severity: string;
  opened_at: string;
  closed_at?: string | null;
  containment?: string | null;
  kinds: string[];
}

export interface ReachSet {
  channels: string[];
  destinations: string[];
  devices_reachable: number;
}

export interface Step {
  at: string;
  actor: string;
  what: string;
  expected?: string | null;
  seen?: string | null;
  source?: string | null;
  attribution?: string | null;
  observed_by?: string | null;
  entry?: number | null;
  proof?: { index: number; tree_size: number } | null;
}

export interface Incident extends IncidentRow {
  before: ReachSet;
  after: ReachSet;
  steps: Step[];
}

export interface Playbook {
  name: string;
  description: string;
  mode: string;
  kinds: string[];
  kinds_min: number;
  outside_min: number;
  severity_min?: string;
  steps: { action: string; to?: string | null; after_seconds?: number | null; when_kinds_min?: number | null }[];
  contain_max?: number | null;
  used_last_hour: number;
  last_run?: string | null;
}

export interface Baseline {
  product: string;
  state: string;
  entries: { feature: string; value: string; devices: number; declared: boolean }[];
  proposed_at?: string | null;
  accepted_at?: string | null;
  accepted_by?: string | null;
}

export interface Entry {
  index: number;
  proven: boolean;
  time: string;
  actor: string;
  action: string;
  object: string;
  details: Record<string, string>;
}

export interface ContainmentDone {
  containment: string;
  known: boolean;
  takes_away: ReachSet;
  sessions_touched: number;
  in_force_after_micros: number;
  recorded_after_micros: number;
  entry?: number | null;
}

export interface GivenBack {
  gives_back: ReachSet;
  entry?: number | null;
}

export interface Import {
  rows: number;
  added: number;
  changed: number;
  unchanged: number;
  refused: { line: number; text: string }[];
  refused_count: number;
}

export interface Findings {
  rows: number;
  certificates: number;
  refused: { line: number; text: string }[];
  findings: { kind: string; severity: string; count: number; examples: string[]; why: string; next: string }[];
}

export interface Problem {
  status: number;
  code: string;
  detail: string;
  who_must_act?: string | null;
  errors?: string[];
}
