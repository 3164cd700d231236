/** What the API answers with, by the names that the pages use; the shapes are the interface's own. */

import type { components } from './schema';

type Schemas = components['schemas'];

export type Containment = 'quarantined' | 'isolated';

export type Overview = Schemas['Overview'];
export type DeviceRow = Schemas['KnownDevice'];
export type DevicePage = Schemas['DeviceInFull'];
export type Reach = Schemas['Reached'];
export type ReachSet = Schemas['Reach'];
export type Alert = Schemas['Alert'];
export type Baseline = Schemas['Baseline'];
export type IncidentRow = Schemas['IncidentRow'];
export type Incident = Schemas['OneIncident'];
export type Step = Schemas['Step'];
export type Playbook = Schemas['Playbook'];
export type ContainmentDone = Schemas['ContainmentDone'];
export type GivenBack = Schemas['Restored'];
export type Import = Schemas['Imported'];
export type Findings = Schemas['Findings'];
export type Entry = Schemas['EntryRow'];
export type Problem = Schemas['ProblemBody'];
