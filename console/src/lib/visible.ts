/** Text that others chose, made safe to look at: nothing in it hides, turns or imitates. */

export interface Run {
  text: string;
  /** Stands for a character that would not show, or would rearrange its neighbours. */
  hidden: boolean;
}

/** Control, format (bidi, zero-width, tags), separators but the space, surrogates, unassigned. */
const HIDDEN = /[\p{Cc}\p{Cf}\p{Cs}\p{Cn}\p{Co}\p{Zl}\p{Zp}\u00a0\u2000-\u200a\u202f\u205f\u3000\u115f\u1160\u3164\uffa0]/u;
/** More marks than any script stacks on one letter: they would cover the lines above. */
const MARKS = /(\p{M}{4})\p{M}+/gu;

export function runs(text: string, lengthMax = 512): Run[] {
  const cut = text.length > lengthMax;
  const found: Run[] = [];
  for (const character of (cut ? text.slice(0, lengthMax) : text).replace(MARKS, '$1')) {
    const hidden = HIDDEN.test(character);
    const shown = hidden ? name(character) : character;
    const last = found.at(-1);
    if (last && !last.hidden && !hidden) last.text += shown;
    else found.push({ text: shown, hidden });
  }
  if (cut) found.push({ text: `… ${text.length - lengthMax} more`, hidden: true });
  return found;
}

/** The same as one text, where markup cannot stand: titles, labels. */
export function visible(text: string, lengthMax = 512): string {
  return runs(text, lengthMax)
    .map((run) => (run.hidden ? `⟨${run.text}⟩` : run.text))
    .join('');
}

function name(character: string): string {
  return `U+${(character.codePointAt(0) ?? 0).toString(16).toUpperCase().padStart(4, '0')}`;
}
