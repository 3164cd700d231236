/** What the API answers with, by the names that the pages use; the shapes are the interface's own. */

import type { components } from './schema';

type Schemas = components['schemas'];

export type Containment = 'quarantined' | 'isolated';

export type Overview = Schemas['Overview'];
export type DeviceRow = Schemas['KnownDevice'];
export type DevicePage = Schemas['DeviceInFull'];
export type Reach = Schemas['Reached'];
export type ReachSet = Schemas['Reach'];
export type Session = Schemas['Session'];
export type GatewayRefusal = Schemas['RefusedAtGateway'];
export type Speech = Schemas['Speech'];
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
export type Authorities = Schemas['Authorities'];
export type RootCa = Schemas['Root'];
export type IssuingCa = Schemas['IssuingCa'];
export type CertificateRow = Schemas['CertificateOfList'];
export type CertificatePage = Schemas['CertificatePage'];
export type CertificateSummary = Schemas['CertificateSummary'];
export type DeviceIdentity = Schemas['DeviceWithCertificates'];
export type PendingRow = Schemas['Pending'];
export type Approval = Schemas['Approval'];
/** What can be revoked. */
export type RevocableKind = 'device' | 'service' | 'certificate' | 'product' | 'ca';
export type RevocationPreview = Schemas['RevocationPreviewed'];
export type RevocationDone = Schemas['RevocationDone'];
export type Withdrawn = Schemas['Withdrawn'];
export type WithdrawnPage = Schemas['WithdrawnPage'];
export type ImportedFleet = Schemas['ImportedFleet'];
export type NewImport = Schemas['NewImport'];
export type DevicesImported = Schemas['DevicesImported'];
export type KnownToken = Schemas['KnownToken'];
export type TokenCounts = Schemas['TokenCounts'];
export type TokensMade = Schemas['TokensMade'];
export type ServedCertificate = Schemas['ServedCertificate'];
export type Chip = Schemas['ExpectedChip'];
export type TpmVendor = Schemas['TpmVendor'];
export type Manufacturer = Schemas['Manufacturer'];
export type WhoAmI = Schemas['WhoAmI'];
export type Passkey = Schemas['Passkey'];
export type NewPasskey = Schemas['NewPasskey'];
export type PasskeyAnswer = Schemas['PasskeyAnswer'];
export type ProviderAnswer = Schemas['ProviderAnswer'];
export type Person = Schemas['Person'];
export type NewPerson = Schemas['NewPerson'];
export type ApiToken = Schemas['ApiToken'];
export type NewToken = Schemas['NewToken'];
export type TokenMade = Schemas['TokenMade'];
export type Proposal = Schemas['Proposal'];
export type SignInRefused = Schemas['SignInRefused'];
export type Problem = Schemas['ProblemBody'];
