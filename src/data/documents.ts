// Documents: token ids, and for each whether it is trained. They lie in memory or in a file
// (prepared/documents-file.ts); code that makes batches or fingerprints of them does not know which. make-documents.ts
// makes documents of rows.

export interface Document {
  tokens: Int32Array;
  /** 1: the loss of predicting this token counts. The first token is never predicted: 0. */
  trained: Uint8Array;
  /** The row it comes from. */
  place: string;
}

export interface Documents {
  readonly length: number;
  /** Number of tokens of a document, without reading it. */
  lengthOf(index: number): number;
  /** The caller owns a document that is read from a file, and must not change one in memory. */
  document(index: number): Document;
  /** Facts that were noted when a file was written, so that the file need not be read for them. */
  readonly facts?: DocumentFacts;
  /** Closes the file. */
  close(): void;
}

export interface DocumentFacts {
  fingerprint: RowsFingerprint;
  largestToken: number;
}

/** Digests of documents; fingerprint.ts takes and compares them. */
export interface RowsFingerprint {
  documents: number;
  tokens: number;
  /** Digest of all documents in order. */
  digest: string;
  /** Eight digits for each of at most `MOST_PARTS` runs of documents; they tell where a difference begins. */
  parts: string;
}

export const inMemory = (documents: readonly Document[]): Documents => ({
  length: documents.length,
  lengthOf: (index) => documents[index].tokens.length,
  document: (index) => documents[index],
  close: () => {},
});

/** All documents, one after the other. */
export function* eachDocument(documents: Documents): Generator<Document> {
  for (let i = 0; i < documents.length; i++) yield documents.document(i);
}
