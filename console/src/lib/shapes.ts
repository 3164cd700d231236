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
export type SegmentMap = Schemas['Segments'];
export type SegmentRow = Schemas['Segment'];
export type SegmentCell = Schemas['SegmentCell'];
export type SegmentRight = Schemas['SegmentRight'];
export type FleetFile = Schemas['FleetFile'];
export type Planned = Schemas['Planned'];
export type Shift = Schemas['Shift'];
export type CommandAsked = Schemas['CommandAsked'];
export type CommandPreview = Schemas['CommandPreview'];
export type CommandRow = Schemas['Command'];
export type CommandPage = Schemas['CommandWithDevices'];
export type DeliveryRow = Schemas['DeviceDelivery'];
export type Twin = Schemas['Twin'];
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
export type Problem = Schemas['ProblemBody'];
