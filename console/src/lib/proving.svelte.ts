/** An entry's proof, computed in this page: nothing is believed that the server only says. */

import * as api from './api';
import { compareWithKept, type Kept, Log, type Proof } from './verify/log';
import { Failure, parseKey } from './verify/note';

function keptOf(origin: string): Kept | undefined {
  try {
    return JSON.parse(localStorage.getItem(`log ${origin}`) ?? 'null') ?? undefined;
  } catch {
    return undefined;
  }
}

export class Proving {
  proof = $state.raw<Proof | undefined>();
  /** What this browser kept of the log before. */
  before = $state.raw<Kept | undefined>();
  failed = $state<string | undefined>();
  vkey = $state('');
  checking = $state(false);

  async check(index: number): Promise<void> {
    this.checking = true;
    this.failed = undefined;
    this.proof = undefined;
    try {
      const named = await api.logKey();
      this.vkey = named.vkey;
      const log = await Log.open(api.logFile, await parseKey(this.vkey));
      this.before = keptOf(named.origin);
      const found = await log.prove(index);
      const keep = await compareWithKept(log, this.vkey, this.before);
      try {
        localStorage.setItem(`log ${named.origin}`, JSON.stringify(keep));
      } catch {
        // Without storage each visit is the first.
      }
      this.proof = found;
    } catch (error) {
      this.failed = error instanceof Failure ? `${error.place}: ${error.what}` : error instanceof Error ? error.message : String(error);
    } finally {
      this.checking = false;
    }
  }
}
