/** Something read from the plane and read again when it changes. */

import { Refused } from './api';
import { type Change, live } from './live.svelte';
import { session } from './session.svelte';

export class Reading<T> {
  value = $state.raw<T | undefined>(undefined);
  trouble = $state<string | undefined>(undefined);
  private turn = 0;

  constructor(private readonly read: () => Promise<T>) {}

  /** Answers that arrive out of order are dropped: the last question counts. */
  async again(): Promise<void> {
    const turn = ++this.turn;
    try {
      const value = await this.read();
      if (turn !== this.turn) return;
      this.value = value;
      this.trouble = undefined;
    } catch (error) {
      if (turn !== this.turn) return;
      if (error instanceof Refused && error.isSignedOut) session.ended();
      this.trouble = said(error);
    }
  }
}

/** Reads now, when one of its sources changes, and whenever something that `read` uses changes. */
export function reading<T>(read: () => Promise<T>, changes: Change[]): Reading<T> {
  const one = new Reading(read);
  $effect(() => {
    void one.again();
  });
  $effect(() => live.on(changes, () => void one.again()));
  return one;
}

/** Any trouble, as a sentence. */
export function said(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
