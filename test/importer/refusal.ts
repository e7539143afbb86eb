/**
 * How the importer says no: one sentence, as a person would want to read it.
 *
 * Thrown for everything that is wrong with an archive; any other error out of the importer is a bug of its own.
 */

/** An archive was refused; the message is the sentence that says why. */
export class ImportRefused extends Error {
  constructor(sentence: string, cause?: unknown) {
    super(sentence, cause === undefined ? undefined : { cause });
    this.name = 'ImportRefused';
  }
}

/** Refuses the archive; an earlier refusal that caused this one stays as it is. */
export function refuse(sentence: string, cause?: unknown): never {
  if (cause instanceof ImportRefused) throw cause;
  throw new ImportRefused(sentence, cause);
}
