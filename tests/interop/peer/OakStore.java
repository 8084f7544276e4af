import java.io.File;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeSet;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.apache.jackrabbit.oak.plugins.blob.datastore.DataStoreBlobStore;
import org.apache.jackrabbit.oak.plugins.blob.datastore.OakFileDataStore;
import org.apache.jackrabbit.oak.segment.RecordId;
import org.apache.jackrabbit.oak.segment.SegmentNodeStore;
import org.apache.jackrabbit.oak.segment.SegmentNodeStoreBuilders;
import org.apache.jackrabbit.oak.segment.SegmentNotFoundExceptionListener;
import org.apache.jackrabbit.oak.segment.compaction.SegmentGCOptions;
import org.apache.jackrabbit.oak.segment.file.FileStore;
import org.apache.jackrabbit.oak.segment.file.FileStoreBuilder;
import org.apache.jackrabbit.oak.segment.file.ReadOnlyFileStore;
import org.apache.jackrabbit.oak.segment.file.tar.GCGeneration;
import org.apache.jackrabbit.oak.spi.commit.CommitInfo;
import org.apache.jackrabbit.oak.spi.commit.EmptyHook;
import org.apache.jackrabbit.oak.spi.state.NodeBuilder;
import org.apache.jackrabbit.oak.spi.blob.BlobStore;
import org.apache.jackrabbit.oak.spi.blob.FileBlobStore;
import org.apache.jackrabbit.oak.spi.state.NodeState;

/**
 * A segment store that is open for writing.
 *
 * <p>Options of {@code open DIRECTORY}: {@code tar} (MiB at which a tar is closed; 1), {@code
 * blobs} (the directory of a FileDataStore) or {@code blocks} (that of a FileBlobStore), {@code
 * retained} (generations that a cleanup keeps), {@code standby} (opened as the store of a standby
 * is).
 */
final class OakStore implements OakPeer.Served {
  final FileStore files;
  private final Path directory;
  private final BlobStore blobs;
  private SegmentNodeStore nodes;

  OakStore(OakPeer.Words words) throws Exception {
    directory = new File(words.get(0)).toPath();
    blobs = blobs(words);
    SegmentGCOptions collecting = new SegmentGCOptions().setEstimationDisabled(true);
    boolean standby = words.isTrue("standby");
    collecting.setRetainedGenerations(words.number("retained", standby ? 1 : 2));
    FileStoreBuilder builder = builder(words, blobs).withGCOptions(collecting);
    if (standby) {
      builder.withSnfeListener(SegmentNotFoundExceptionListener.IGNORE_SNFE);
      builder.withEagerSegmentCaching(true);
    }
    files = builder.build();
  }

  private static FileStoreBuilder builder(OakPeer.Words words, BlobStore blobs) {
    FileStoreBuilder builder = FileStoreBuilder.fileStoreBuilder(new File(words.get(0)));
    builder.withMaxFileSize(words.number("tar", 1)).withSegmentCacheSize(64);
    builder.withDefaultMemoryMapping();
    return blobs == null ? builder : builder.withBlobStore(blobs);
  }

  /** Where a standby with this store puts the binaries that are on their way. */
  File spool() throws Exception {
    return Files.createDirectories(directory.resolve("spool")).toFile();
  }

  private static BlobStore blobs(OakPeer.Words words) {
    if (words.option("blocks") != null) {
      return new FileBlobStore(words.option("blocks"));
    }
    if (words.option("blobs") == null) {
      return null;
    }
    OakFileDataStore data = new OakFileDataStore();
    data.setPath(words.option("blobs"));
    data.init(words.option("blobs"));
    return new DataStoreBlobStore(data);
  }

  /** {@code walk DIRECTORY}: all of the content, through a read-only open, without a lock. */
  static Map<String, Object> walk(OakPeer.Words words) throws Exception {
    BlobStore blobs = blobs(words);
    try (ReadOnlyFileStore files = builder(words, blobs).buildReadOnly()) {
      Map<String, Object> told = new LinkedHashMap<>();
      told.put("head", files.getHead().getRecordId());
      told.putAll(ContentDigest.of(files.getHead()).told());
      return told;
    } finally {
      close(blobs);
    }
  }

  @Override
  public Map<String, Object> serve(String verb, OakPeer.Words words) throws Exception {
    switch (verb) {
      case "state":
        return state();
      case "fill":
        Filling.fill(nodes(), words);
        break;
      case "commit":
        NodeBuilder root = nodes().getRoot().builder();
        new Edits(nodes(), root).apply(words.all());
        merge(nodes(), root);
        break;
      case "checkpoint":
        return checkpoint(words);
      case "checkpoints":
        return Collections.singletonMap("names", names(nodes().checkpoints()));
      case "marked":
        return marked();
      case "release":
        nodes().release(words.get(0));
        break;
      case "compact":
        collect(words.get(0));
        break;
      case "digest":
        return digest(words);
      default:
        throw new IllegalArgumentException("a store cannot " + verb);
    }
    return state();
  }

  /** What its users work with; made late, since on a fresh store it commits a first root. */
  private SegmentNodeStore nodes() {
    if (nodes == null) {
      nodes = SegmentNodeStoreBuilders.builder(files).build();
    }
    return nodes;
  }

  static void merge(SegmentNodeStore nodes, NodeBuilder root) throws Exception {
    nodes.merge(root, EmptyHook.INSTANCE, CommitInfo.EMPTY);
  }

  private Map<String, Object> checkpoint(OakPeer.Words words) throws Exception {
    Map<String, String> properties = new LinkedHashMap<>();
    for (String word : words.all()) {
      int sign = word.indexOf(':');
      properties.put(word.substring(0, sign), word.substring(sign + 1));
    }
    String name = nodes().checkpoint(365L * 24 * 3600 * 1000, properties);
    Map<String, Object> told = state();
    told.put("name", name);
    return told;
  }

  private void collect(String how) throws Exception {
    boolean done = true;
    nodes();
    switch (how) {
      case "full":
        files.fullGC();
        break;
      case "tail":
        files.tailGC();
        break;
      case "full-only":
        done = files.compactFull();
        break;
      case "tail-only":
        done = files.compactTail();
        break;
      case "cleanup-only":
        files.cleanup();
        break;
      default:
        throw new IllegalArgumentException("no compaction is called " + how);
    }
    if (!done) {
      throw new IllegalStateException("Oak gave up the compaction");
    }
  }

  private Map<String, Object> digest(OakPeer.Words words) throws Exception {
    NodeState node = files.getHead();
    if (words.size() > 0) {
      for (String name : Edits.names(words.get(0))) {
        node = node.getChildNode(name);
      }
    }
    return ContentDigest.of(node).told();
  }

  private static String names(Iterable<String> found) {
    List<String> names = new ArrayList<>();
    found.forEach(names::add);
    return names.stream().sorted().collect(Collectors.joining(","));
  }

  /** Makes all durable, and tells the head and what is on the disk. */
  private Map<String, Object> state() throws Exception {
    files.flush();
    RecordId head = files.getHead().getRecordId();
    GCGeneration generation = head.getSegment().getGcGeneration();
    Map<String, Object> told = new LinkedHashMap<>();
    told.put("head", head);
    told.put("generation", generation.getGeneration());
    told.put("full", generation.getFullGeneration());
    told.put("compacted", generation.isCompacted());
    told.put("segments", files.getSegmentCount());
    try (Stream<Path> found = Files.list(directory)) {
      told.put("tars", found.filter(path -> path.toString().endsWith(".tar")).count());
    }
    return told;
  }

  /** {@code marked}: the external binaries that a garbage collection of Oak's would keep. */
  private Map<String, Object> marked() throws Exception {
    TreeSet<String> found = new TreeSet<>();
    files.collectBlobReferences(found::add);
    return Collections.singletonMap("ids", String.join(" ", found));
  }

  @Override
  public void close() throws Exception {
    files.close();
    close(blobs);
  }

  private static void close(BlobStore blobs) throws Exception {
    if (blobs instanceof AutoCloseable) {
      ((AutoCloseable) blobs).close();
    } else if (blobs instanceof DataStoreBlobStore) {
      ((DataStoreBlobStore) blobs).close();
    }
  }
}
