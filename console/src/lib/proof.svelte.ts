/** Whoever does something dangerous is asked once more who they are; whatever waits for it goes on then. */

class Proof {
  /** Somebody is asked now. */
  asked = $state(false);
  private waiting: ((proven: boolean) => void)[] = [];

  /** `true` once they have proven it; `false` if they would not. */
  ask(): Promise<boolean> {
    this.asked = true;
    return new Promise((answer) => this.waiting.push(answer));
  }

  answer(proven: boolean): void {
    this.asked = false;
    for (const answer of this.waiting.splice(0)) answer(proven);
  }
}

export const proof = new Proof();
