/** Page by page through rows that come in pages, and back. */
export class Pages {
  /** Where each page before this one began. */
  private before = $state.raw<(string | undefined)[]>([]);
  /** Behind which row this one begins; none: with the first. */
  after = $state.raw<string | undefined>();

  get isFirst(): boolean {
    return this.before.length === 0;
  }

  turn(to: string): void {
    this.before = [...this.before, this.after];
    this.after = to;
  }

  back(): void {
    this.after = this.before.at(-1);
    this.before = this.before.slice(0, -1);
  }

  begin(): void {
    this.before = [];
    this.after = undefined;
  }
}
