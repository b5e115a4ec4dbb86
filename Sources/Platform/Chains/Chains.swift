import NIOCore
import CLibXML2
