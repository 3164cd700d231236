/** Up and down go from row to row, as in any list: among the links or buttons that begin a row. */
export function moved(event: KeyboardEvent): void {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (!step) return;
  const starts = [...(event.currentTarget as HTMLElement).querySelectorAll<HTMLElement>('[data-row]')];
  const row = (document.activeElement as HTMLElement | null)?.closest('tr');
  const at = starts.findIndex((start) => start.closest('tr') === row);
  starts[at + step]?.focus();
  event.preventDefault();
}
